// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
)

// requester asks pods all the time, from a machine elsewhere in the VPC: fifty a second, in turn.
type requester struct {
	stdin io.WriteCloser
	ended chan error

	mu               sync.Mutex
	replies          map[string]Reply
	answered, failed int
}

// request starts it on an instance. It ends with the context.
func request(ctx context.Context, box *sandbox.Sandbox, instance, netprobe string) (*requester, error) {
	cmd, err := box.Command(ctx, sandbox.Target{Instance: instance}, netprobe, "request", "-every", "20ms", "-timeout", "2s")
	if err != nil {
		return nil, err
	}
	r := &requester{ended: make(chan error, 1), replies: map[string]Reply{}}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if r.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting requests: %w", err)
	}
	go func() {
		r.read(stdout)
		r.ended <- fmt.Errorf("who makes the requests has ended: %w", cmd.Wait())
	}()
	return r, nil
}

// read "ok ADDR" and "failed ADDR: why".
func (r *requester) read(stdout io.Reader) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		verdict, rest, _ := strings.Cut(lines.Text(), " ")
		endpoint, why, _ := strings.Cut(rest, ": ")
		address, _, isEndpoint := strings.Cut(endpoint, ":")
		if !isEndpoint { // there was nobody to ask
			continue
		}
		r.mu.Lock()
		reply := r.replies[address]
		if verdict == "ok" {
			r.answered++
			reply.OK = time.Now()
		} else {
			r.failed++
			reply.Failed, reply.Why = time.Now(), why
		}
		r.replies[address] = reply
		r.mu.Unlock()
	}
}

// ask these addresses from now on. What is known of others is forgotten, so that an address tells nothing of its next pod.
func (r *requester) ask(addresses []string) error {
	endpoints, asked := make([]string, len(addresses)), map[string]bool{}
	for i, address := range addresses {
		endpoints[i], asked[address] = fmt.Sprintf("%s:%d", address, podPort), true
	}
	r.mu.Lock()
	maps.DeleteFunc(r.replies, func(address string, _ Reply) bool { return !asked[address] })
	r.mu.Unlock()
	_, err := fmt.Fprintln(r.stdin, strings.Join(endpoints, " "))
	return err
}

func (r *requester) known() map[string]Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.replies)
}

func (r *requester) count() (answered, failed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answered, r.failed
}
