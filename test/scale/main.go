// SPDX-License-Identifier: Apache-2.0

// Scale runs Dovetail's controller against a thousand nodes and ten thousand pods, in a sandbox whose nodes exist in the
// control plane only, and prints how long that took and what it cost. Figures depend on the machine: compare those of one
// machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

func main() {
	var l load
	var opts scenario.Options
	flag.StringVar(&opts.BinDir, "bin-dir", "bin", "what 'make build controlplane' made")
	flag.StringVar(&opts.Examples, "examples", "examples", "manifests to apply, but for their NodePool and Deployment")
	flag.IntVar(&l.waves, "waves", 10, "how many times pods arrive")
	flag.IntVar(&l.nodesPerWave, "nodes", 100, "nodes that the pods of a wave fill")
	flag.IntVar(&l.podsPerNode, "pods-per-node", 10, "pods on each node")
	flag.DurationVar(&l.deadline, "deadline", 20*time.Minute, "when to give up")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := l.run(ctx, opts)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\n✗ %v\n", err)
		os.Exit(1)
	}
}

// run starts a sandbox in a directory of its own, which stays where something failed.
func (l *load) run(ctx context.Context, opts scenario.Options) (err error) {
	if opts.Dir, err = os.MkdirTemp("", "dovetail-scale-"); err != nil {
		return err
	}
	opts.UpFlags = []string{"--kubelet", "hollow"}
	ctx, cancel := context.WithTimeout(ctx, l.deadline)
	defer cancel()
	sandbox, took, err := scenario.Up(ctx, opts)
	if sandbox != nil {
		defer func() {
			if err != nil {
				err = fmt.Errorf("%w\nlogs are in %s/logs", err, opts.Dir)
			}
			downCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			if err = errors.Join(err, sandbox.Down(downCtx)); err == nil {
				err = os.RemoveAll(opts.Dir)
			}
		}()
	}
	if err != nil {
		return fmt.Errorf("starting the sandbox: %w", err)
	}
	fmt.Printf("%-40s %8.1f s\n", "sandbox up", took.Seconds())
	l.sandbox = sandbox
	return l.measure(ctx)
}
