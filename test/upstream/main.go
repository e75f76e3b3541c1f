// SPDX-License-Identifier: Apache-2.0

// Upstream runs the regression suite of Karpenter's core, as its module has it, against Dovetail's controller in sandboxes whose
// nodes are on a pod network, and prints what passed. The suite drives the Kubernetes API only: each of its top-level
// containers gets a sandbox of its own, and several run at a time, since most of their time is waiting.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"
)

// options of the command line.
type options struct {
	binDir, suite, dir, examples, kubelet string
	focus, skip                           string // regular expressions
	parallel                              int
	deadline                              time.Duration // of a container
}

func main() {
	var o options
	flag.StringVar(&o.binDir, "bin-dir", "bin", "what 'make build controlplane' made")
	flag.StringVar(&o.suite, "suite", "bin/karpenter-regression.test", "the suite's test binary")
	flag.StringVar(&o.dir, "dir", "test/upstream", "the controller's values, the node class, the node pools and the list of skipped specs")
	flag.StringVar(&o.examples, "examples", "examples", "manifests, of which the PodNetwork and the ENIConfigs are applied")
	flag.StringVar(&o.kubelet, "kubelet", "hollow", "what instances run: see dovetail sandbox up --help")
	flag.StringVar(&o.focus, "focus", "", "run only specs that match this")
	flag.StringVar(&o.skip, "skip", "", "leave out specs that match this, besides those of the list")
	flag.IntVar(&o.parallel, "parallel", 3, "sandboxes at a time")
	flag.DurationVar(&o.deadline, "deadline", 2*time.Hour, "when to give up a container's specs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := o.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\n✗ %v\n", err)
		os.Exit(1)
	}
}

func (o options) run(ctx context.Context) error {
	for _, path := range []*string{&o.suite, &o.dir} { // the suite has another working directory
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	work, err := os.MkdirTemp("", "dovetail-upstream-")
	if err != nil {
		return err
	}
	specs, err := o.plan(ctx, work)
	if err != nil {
		return err
	}
	started := time.Now()
	results, err := o.runAll(ctx, specs, work)
	failed := printTable(os.Stdout, results)
	fmt.Printf("%.0f s in all\n", time.Since(started).Seconds())
	if failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d specs did not pass", failed))
	}
	if err != nil {
		return fmt.Errorf("%w\nlogs are in %s", err, work)
	}
	return os.RemoveAll(work)
}

// plan lists the suite's specs, and says of each whether it is to run.
func (o options) plan(ctx context.Context, work string) ([]spec, error) {
	specs, err := listSpecs(ctx, o.suite, work)
	if err != nil {
		return nil, err
	}
	listed, err := readSkipped(filepath.Join(o.dir, "skipped.yaml"))
	if err != nil {
		return nil, err
	}
	if err := listed.mark(specs); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		expression, reason string
		leaveOut           bool
	}{{o.focus, "out of focus", false}, {o.skip, "skipped by the command line", true}} {
		if part.expression == "" {
			continue
		}
		matcher, err := regexp.Compile(part.expression)
		if err != nil {
			return nil, err
		}
		for i := range specs {
			if matcher.MatchString(specs[i].text) == part.leaveOut && specs[i].skipped == "" {
				specs[i].skipped, specs[i].asked = part.reason, true
			}
		}
	}
	if !slices.ContainsFunc(specs, func(s spec) bool { return s.skipped == "" }) {
		return nil, fmt.Errorf("no spec is left to run: see %s for their texts", filepath.Join(work, "specs.json"))
	}
	return specs, nil
}

// slow containers have specs that wait for core to give up: 15 minutes for a node to register, 10 for a replacement.
var slow = []string{"Drift", "NodeClaim"}

// runAll runs the containers that have specs to run, and returns the results of all specs, container by container.
func (o options) runAll(ctx context.Context, specs []spec, work string) ([]spec, error) {
	var containers []string
	for _, s := range specs {
		if s.skipped == "" && !slices.Contains(containers, s.container) {
			containers = append(containers, s.container)
		}
	}
	slices.SortFunc(containers, func(a, b string) int {
		return cmp.Or(-cmp.Compare(slices.Index(slow, a), slices.Index(slow, b)), cmp.Compare(a, b))
	})
	var (
		mu    sync.Mutex
		errs  []error
		done  sync.WaitGroup
		slots = make(chan struct{}, max(o.parallel, 1))
	)
	for _, name := range containers {
		slots <- struct{}{}
		done.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			c := container{options: o, name: name, dir: filepath.Join(work, name)}
			for _, s := range specs {
				if s.container == name && s.skipped == "" {
					c.specs = append(c.specs, s.text)
				}
			}
			started := time.Now()
			ran, nodes, err := c.run(ctx)
			mu.Lock()
			defer mu.Unlock()
			fmt.Printf("%-16s %3d specs %6.0f s %5d nodes\n", name, len(c.specs), time.Since(started).Seconds(), nodes)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
			for i := range specs {
				if result, ok := ran[specs[i].text]; ok && specs[i].container == name {
					specs[i].state, specs[i].took, specs[i].failure = result.state, result.took, result.failure
				}
			}
		})
	}
	done.Wait()
	slices.SortStableFunc(specs, func(a, b spec) int { return cmp.Compare(a.container, b.container) })
	return specs, errors.Join(errs...)
}
