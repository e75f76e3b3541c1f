// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// successorInterval is how often kill looks for a restarted program: well under any supervisor's start-up time.
const successorInterval = 20 * time.Millisecond

func printProcesses(_ context.Context, _ settings, name string) error {
	pids, err := processes(name)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		fmt.Println(pid)
	}
	return nil
}

// killProcesses sends SIGKILL to every process that runs the program and prints its pid. It fails when there is none.
func killProcesses(ctx context.Context, set settings, name string) error {
	if set.hold {
		var cancel context.CancelFunc
		ctx, cancel = untilInputEnds(ctx)
		defer cancel()
	}
	killed := map[int]bool{}
	ticker := time.NewTicker(successorInterval)
	defer ticker.Stop()
	for {
		pids, err := processes(name)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				if errors.Is(err, syscall.ESRCH) {
					continue
				}
				return fmt.Errorf("killing %d: %w", pid, err)
			}
			if !killed[pid] {
				fmt.Println(pid)
			}
			killed[pid] = true
		}
		if len(killed) == 0 {
			return fmt.Errorf("no process runs %s here", name)
		}
		if !set.hold {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// processes lists those that run the program of this base name in this process's network namespace: on one kernel that
// is what tells the agent of one node from another's.
func processes(name string) ([]int, error) {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A process may end between two reads, and a zombie has neither: neither is running the program.
		namespace, err := os.Readlink(filepath.Join("/proc", entry.Name(), "ns/net"))
		if err != nil || namespace != own {
			continue
		}
		program, err := os.Readlink(filepath.Join("/proc", entry.Name(), "exe"))
		if err == nil && filepath.Base(program) == name {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
