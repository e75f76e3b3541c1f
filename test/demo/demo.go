// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// progressInterval keeps pods that change sixty at a time from filling the screen.
const progressInterval = time.Second

// demo prints the scenario's steps as they happen.
type demo struct {
	out      io.Writer
	sandbox  *scenario.Sandbox
	examples string
	started  time.Time
	printed  time.Time // the last line of progress

	web, shop     scenario.Workload
	before, after state
	requests      *scenario.Requests
	old           []string // instances of the nodes before

	// Measured times.
	up, moved, running, zero time.Duration
}

// step prints a line with the time since the start.
func (d *demo) step(format string, args ...any) {
	fmt.Fprintf(d.out, "%6.1fs  %s\n", time.Since(d.started).Seconds(), fmt.Sprintf(format, args...))
}

// progress prints a line, unless there was one just now.
func (d *demo) progress(format string, args ...any) {
	if time.Since(d.printed) >= progressInterval {
		d.step("  "+format, args...)
		d.printed = time.Now()
	}
}

func (d *demo) run(ctx context.Context) error {
	if err := within(ctx, exhaustDeadline, d.exhaust); err != nil {
		return err
	}
	if err := within(ctx, moveDeadline, d.move); err != nil {
		return err
	}
	if err := within(ctx, runDeadline, d.growOn); err != nil {
		return err
	}
	// What is wrong with nodes or packets does not keep the demo from going on to show the rest.
	problems := []error{within(ctx, probeDeadline, d.inspect), within(ctx, goneDeadline, d.waitGone)}
	problems = append(problems, within(ctx, zeroDeadline, d.scaleToZero))
	d.numbers()
	return errors.Join(problems...)
}

func within(ctx context.Context, deadline time.Duration, part func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	return part(ctx)
}

// inspect prints what was launched and tries its network.
func (d *demo) inspect(ctx context.Context) error {
	nodes, err := d.sandbox.Nodes(ctx)
	if err != nil {
		return err
	}
	printNodes(d.out, nodes)
	problems := []error{d.sandbox.CheckNodes(ctx, nodes), d.sandbox.CheckPods(ctx, d.web, nodes), d.sandbox.CheckReadyConditions(ctx, nodes)}
	subnets, err := d.sandbox.PodsPerSubnet(ctx, d.web)
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	printSubnets(d.out, subnets)
	d.step("trying the network with real packets, from two nodes of each zone")
	probes, err := d.sandbox.Connectivity(ctx, d.web, twoOfEachZone(nodes))
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	printProbes(d.out, probes)
	return errors.Join(append(problems, scenario.CheckMatrix(probes))...)
}

func twoOfEachZone(nodes []scenario.Node) []scenario.Node {
	count := map[string]int{}
	return slices.DeleteFunc(slices.Clone(nodes), func(node scenario.Node) bool {
		count[node.Zone]++
		return count[node.Zone] > 2
	})
}

// waitGone waits until no old node is left.
func (d *demo) waitGone(ctx context.Context) error {
	if err := d.sandbox.WaitGone(ctx, d.old); err != nil {
		return err
	}
	d.step("none of the %d old nodes is left", len(d.old))
	return nil
}

// scaleToZero removes the pods and waits until nothing of what was launched for them is left.
func (d *demo) scaleToZero(ctx context.Context) error {
	d.step("scaling to zero")
	if _, err := d.sandbox.Scale(ctx, d.shop, 0); err != nil {
		return err
	}
	last := ""
	left, took, err := d.sandbox.ScaleToZero(ctx, d.web, func(now scenario.Leaks) {
		line := fmt.Sprintf("left: %d nodes, %d node claims, %d instances, %d ENIs",
			len(now.Nodes), len(now.NodeClaims), len(now.Instances), len(now.Interfaces))
		if line != last {
			d.progress("%s", line)
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

// numbers compares the measured times with what is wanted. Too long is marked, and no failure: what else the machine does is not known here.
func (d *demo) numbers() {
	printNumbers(d.out, []number{
		{"sandbox up", d.up, scenario.LimitUp},
		{"all pods and nodes moved to the pod network", d.moved, 0},
		{fmt.Sprintf("%d more pods from pending to running", more), d.running, scenario.LimitRunning},
		{"pods gone to nothing left", d.zero, 0},
		{"whole demo", time.Since(d.started), scenario.LimitDemo},
	})
}
