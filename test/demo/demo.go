// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// progressInterval keeps pods that change sixty at a time from filling the screen.
const progressInterval = 500 * time.Millisecond

// demo prints the scenario's steps as they happen.
type demo struct {
	out      io.Writer
	sandbox  *scenario.Sandbox
	examples string
	started  time.Time

	// Measured times.
	up, running, zero time.Duration
}

// step prints a line with the time since the start.
func (d *demo) step(format string, args ...any) {
	fmt.Fprintf(d.out, "%6.1fs  %s\n", time.Since(d.started).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context) error {
	workload, err := d.pods(ctx)
	if err != nil {
		return err
	}
	// What is wrong with nodes or packets does not keep the demo from going on to show the rest.
	problems := []error{d.inspect(ctx, workload)}
	problems = append(problems, d.scaleToZero(ctx, workload))
	problems = append(problems, d.numbers())
	return errors.Join(problems...)
}

// pods applies the examples and waits until all pods run.
func (d *demo) pods(ctx context.Context) (scenario.Workload, error) {
	ctx, cancel := context.WithTimeout(ctx, runDeadline)
	defer cancel()
	start := time.Now()
	applied, err := d.sandbox.Apply(ctx)
	if err != nil {
		return scenario.Workload{}, err
	}
	d.step("applied %s: %s", d.examples, strings.Join(applied, ", "))
	workload, err := d.sandbox.Workload(ctx)
	if err != nil {
		return workload, err
	}
	var printed time.Time
	err = d.sandbox.WaitRunning(ctx, workload, func(p scenario.Progress) {
		if time.Since(printed) >= progressInterval {
			d.step("pods: %2d pending, %2d starting, %2d running on %d nodes", p.Pending, p.Starting, p.Running, p.Nodes)
			printed = time.Now()
		}
	})
	if err != nil {
		return workload, fmt.Errorf("waiting for the pods: %w", err)
	}
	d.running = time.Since(start)
	d.step("all %d pods run", workload.Replicas)
	return workload, nil
}

// inspect prints what was launched and tries its network.
func (d *demo) inspect(ctx context.Context, workload scenario.Workload) error {
	ctx, cancel := context.WithTimeout(ctx, probeDeadline)
	defer cancel()
	nodes, err := d.sandbox.Nodes(ctx)
	if err != nil {
		return err
	}
	printNodes(d.out, nodes)
	problems := []error{d.sandbox.CheckNodes(ctx, nodes), d.sandbox.CheckPods(ctx, workload, nodes), d.sandbox.CheckReadyConditions(ctx, nodes)}
	subnets, err := d.sandbox.PodsPerSubnet(ctx, workload)
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	printSubnets(d.out, subnets)
	d.step("trying the network with real packets")
	probes, err := d.sandbox.Connectivity(ctx, workload, nodes)
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	printProbes(d.out, probes)
	return errors.Join(append(problems, scenario.CheckMatrix(probes))...)
}

// scaleToZero removes the pods and waits until nothing of what was launched for them is left.
func (d *demo) scaleToZero(ctx context.Context, workload scenario.Workload) error {
	ctx, cancel := context.WithTimeout(ctx, zeroDeadline)
	defer cancel()
	d.step("scaling %s to zero", workload.Key)
	last := ""
	left, took, err := d.sandbox.ScaleToZero(ctx, workload, func(now scenario.Leaks) {
		line := fmt.Sprintf("left: %d nodes, %d node claims, %d instances, %d ENIs",
			len(now.Nodes), len(now.NodeClaims), len(now.Instances), len(now.Interfaces))
		if line != last {
			d.step("%s", line)
		}
		last = line
	})
	if err != nil {
		return err
	}
	d.zero = took
	printLeaks(d.out, left)
	if !left.None() {
		return fmt.Errorf("leaked: %s", left)
	}
	return nil
}

// numbers compares the measured times with their limits.
func (d *demo) numbers() error {
	whole := time.Since(d.started)
	measured := []number{
		{"sandbox up", d.up, scenario.LimitUp},
		{"pods from pending to running", d.running, scenario.LimitRunning},
		{"pods gone to nothing left", d.zero, 0},
		{"whole demo", whole, scenario.LimitDemo},
	}
	printNumbers(d.out, measured)
	var problems []error
	for _, n := range measured {
		if !n.ok() {
			problems = append(problems, fmt.Errorf("%s took %.1fs, more than %.0fs", n.name, n.took.Seconds(), n.limit.Seconds()))
		}
	}
	return errors.Join(problems...)
}
