// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// request makes requests at a steady rate, however long each takes.
func request(ctx context.Context, set settings, _ string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lists := make(chan []string)
	go func() {
		defer cancel()
		readLists(ctx, os.Stdin, lists)
	}()
	ticker := time.NewTicker(set.every)
	defer ticker.Stop()
	var addrs []string
	var pending sync.WaitGroup
	defer pending.Wait()
	for next := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case addrs = <-lists:
		case <-ticker.C:
			switch {
			case addrs == nil: // nobody has said any yet
				continue
			case len(addrs) == 0:
				fmt.Println("failed: there is no address to ask")
				continue
			}
			next++
			addr := addrs[next%len(addrs)]
			pending.Go(func() {
				if _, err := ask(context.WithoutCancel(ctx), set.timeout, addr); err != nil {
					fmt.Printf("failed %s: %v\n", addr, err)
					return
				}
				fmt.Printf("ok %s\n", addr)
			})
		}
	}
}

// readLists sends what each line lists, until the input ends.
func readLists(ctx context.Context, input io.Reader, lists chan<- []string) {
	for lines := bufio.NewScanner(input); lines.Scan(); {
		select {
		case lists <- strings.Fields(lines.Text()):
		case <-ctx.Done():
			return
		}
	}
}
