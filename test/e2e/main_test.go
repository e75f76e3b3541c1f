// SPDX-License-Identifier: Apache-2.0

// Package e2e_test asserts on the sandbox what the demo shows, and what it has no time for: bad input, the max-pods of all
// AMI families, addresses that cool, an agent that is killed. It drives the built binaries: run `make build controlplane`
// before.
package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// sandbox is started once for all tests: it is what they are about.
var sandbox *scenario.Sandbox

// Deadlines end a test that hangs; they are no expectation.
const (
	upDeadline   = 5 * time.Minute
	stepDeadline = 8 * time.Minute
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dovetail-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), upDeadline)
	defer cancel()
	started, took, err := scenario.Up(ctx, scenario.Options{
		Dir: dir, BinDir: "../../bin", Examples: "../../examples", UpFlags: []string{"--values", "testdata/values.yaml"},
	})
	if started != nil {
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
		go func() {
			<-interrupted
			down(started) // the sandbox is a daemon: it would outlive the test
			os.Exit(1)
		}()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "starting the sandbox: %v\n", err)
		if started != nil {
			fmt.Fprint(os.Stderr, started.Diagnose(ctx))
			down(started)
		}
		return 1
	}
	fmt.Printf("sandbox up after %.1fs, logs in %s\n", took.Seconds(), dir)
	sandbox = started
	code := m.Run()
	if code == 0 {
		for _, check := range []func(context.Context) error{checkRights, sandbox.CheckSecrets} {
			if err := check(context.Background()); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	down(started)
	if code == 0 {
		_ = os.RemoveAll(dir) // what stays is in a temporary directory
	}
	return code
}

func down(sandbox *scenario.Sandbox) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := sandbox.Down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
