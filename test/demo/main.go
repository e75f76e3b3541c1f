// SPDX-License-Identifier: Apache-2.0

// Demo runs Dovetail's story on the sandbox and prints it as it happens: pods take the addresses of their node subnets until there are
// none; one PodNetwork extends the VPC, and all nodes are replaced while somebody uses a Service; pods have addresses in pod subnets,
// and packets flow; then all of it goes away again. It fails when any of this is not so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// How long steps may take before the demo gives up. What they should take is compared at the end.
const (
	upDeadline      = 2 * time.Minute
	exhaustDeadline = 5 * time.Minute
	moveDeadline    = 8 * time.Minute
	runDeadline     = 3 * time.Minute
	probeDeadline   = 3 * time.Minute
	goneDeadline    = 2 * time.Minute
	zeroDeadline    = 4 * time.Minute
	downDeadline    = time.Minute
)

func main() {
	var opts scenario.Options
	var keep bool
	flag.StringVar(&opts.Dir, "dir", "", "the sandbox's state and logs (default: a new directory, removed at the end)")
	flag.StringVar(&opts.BinDir, "bin-dir", "bin", "what 'make build controlplane' made")
	flag.StringVar(&opts.Examples, "examples", "examples/exhausted", "manifests to apply")
	flag.BoolVar(&keep, "keep", false, "leave the sandbox running")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := inDirectory(ctx, opts, keep)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\n✗ the demo failed: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("\n✓ every check passes")
}

// inDirectory runs the demo in its state directory. A directory of the demo's own stays where something failed.
func inDirectory(ctx context.Context, opts scenario.Options, keep bool) error {
	if opts.Dir != "" {
		return run(ctx, opts, keep)
	}
	dir, err := os.MkdirTemp("", "dovetail-demo-")
	if err != nil {
		return err
	}
	opts.Dir = dir
	if err := run(ctx, opts, keep); err != nil {
		if os.Remove(dir) == nil { // it is empty: nothing has started
			return err
		}
		return fmt.Errorf("%w\nlogs are in %s", err, filepath.Join(dir, "logs"))
	}
	if keep {
		return nil
	}
	return os.RemoveAll(dir)
}

// run starts the sandbox, runs the demo and always ends the sandbox, unless it is to be kept.
func run(ctx context.Context, opts scenario.Options, keep bool) (err error) {
	d := &demo{out: os.Stdout, started: time.Now(), examples: opts.Examples}
	opts.UpFlags = []string{"--layout", "exhausted"}
	d.step("starting the sandbox: etcd, kube-apiserver, AWS APIs, a VPC of namespaces with a /24 for nodes in each zone, aws-node, the controller")
	upCtx, cancel := context.WithTimeout(ctx, upDeadline)
	defer cancel()
	sandbox, took, err := scenario.Up(upCtx, opts)
	if sandbox == nil {
		return err
	}
	defer func() {
		if err != nil {
			fmt.Fprintf(os.Stderr, "\nwhat was there when it failed:\n%s", sandbox.Diagnose(ctx))
		}
		if keep {
			fmt.Printf("\nthe sandbox goes on: eval \"$(dovetail sandbox env --dir %s)\"; end it with: dovetail sandbox down --dir %s\n", opts.Dir, opts.Dir)
			return
		}
		downCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downDeadline)
		defer cancel()
		err = errors.Join(err, sandbox.Down(downCtx))
	}()
	if err != nil {
		return fmt.Errorf("starting the sandbox: %w", err)
	}
	d.sandbox, d.up = sandbox, took
	d.step("the sandbox is up")
	return d.run(ctx)
}
