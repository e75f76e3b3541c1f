// SPDX-License-Identifier: Apache-2.0

// Soak puts a sandbox under random load and faults, and looks all along whether what Dovetail promises holds, from sources that do not
// ask Dovetail: the simulated account, the kernel of each node, requests through the VPC. What happens is a function of a seed: see Round.
// docs/soak.md tells what is done, what is checked, and how to read a failure.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	"github.com/dovetail-dev/dovetail/test/scenario"
)

// soak is a run.
type soak struct {
	seed   uint64
	first  int // round
	limit  time.Duration
	keep   bool
	opts   scenario.Options
	user   *scenario.Sandbox
	box    *sandbox.Sandbox
	system string // the instance that the controller and the client run on

	subnets   scenario.PodSubnets
	began     map[string]bool // interfaces
	netprobe  string
	requester *requester
	figures   *figures
	tracker   *tracker
	before    Observation
	unread    map[string]error // of machines, by instance
	lastFault time.Time
	turn      int

	mu      sync.Mutex
	actions []string
}

func main() {
	s := &soak{figures: newFigures(), tracker: newTracker(), unread: map[string]error{}, began: map[string]bool{}}
	flag.Uint64Var(&s.seed, "seed", 0, "of what happens; 0: any")
	flag.IntVar(&s.first, "round", 0, "round to begin with")
	flag.DurationVar(&s.limit, "duration", 30*time.Minute, "no round begins later")
	flag.BoolVar(&s.keep, "keep", false, "leave the sandbox running where an invariant was broken")
	flag.StringVar(&s.opts.Dir, "dir", "", "state and logs (default: a new directory, removed when all is well)")
	flag.StringVar(&s.opts.BinDir, "bin-dir", "bin", "what 'make build controlplane' made")
	flag.StringVar(&s.opts.Examples, "examples", "examples", "manifests to apply, but for their NodePool and Deployment")
	flag.Parse()
	for s.seed == 0 {
		s.seed = rand.Uint64N(1 << 32) //nolint:gosec // any; short, to be copied
	}
	fmt.Printf("seed %d: -seed %d does the same again\n", s.seed, s.seed)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := s.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\n✗ %v\nseed %d\n", err, s.seed)
		os.Exit(1)
	}
	fmt.Println("\n✓ all invariants held")
}

// run starts the sandbox and ends it. A directory of its own stays where something went wrong.
func (s *soak) run(ctx context.Context) (err error) {
	own := s.opts.Dir == ""
	if own {
		if s.opts.Dir, err = os.MkdirTemp("", "dovetail-soak-"); err != nil {
			return err
		}
	}
	up, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	user, _, err := scenario.Up(up, s.opts)
	if user == nil {
		return err
	}
	s.user = user
	defer func() {
		if err != nil {
			s.tell(err)
			err = fmt.Errorf("%w\nlogs and evidence are in %s", err, s.opts.Dir)
			if s.keep {
				return
			}
		}
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, user.Down(down))
		if err == nil && own {
			err = os.RemoveAll(s.opts.Dir)
		}
	}()
	if err != nil {
		return fmt.Errorf("starting the sandbox: %w", err)
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	started := time.Now()
	defer func() {
		answered, failed := s.requester.count()
		fmt.Println()
		s.figures.print(os.Stdout, s.seed, time.Since(started), answered, failed)
		s.tracker.print(os.Stdout)
	}()
	return s.rounds(ctx, started)
}

// begin makes what rounds need.
func (s *soak) begin(ctx context.Context) (err error) {
	if s.box, err = sandbox.Open(s.opts.Dir); err != nil {
		return err
	}
	binDir, err := filepath.Abs(s.opts.BinDir)
	if err != nil {
		return err
	}
	s.netprobe = filepath.Join(binDir, "netprobe")
	account, err := s.box.Account(ctx)
	if err != nil {
		return err
	}
	for _, i := range account.Interfaces {
		s.began[i.ID] = true
	}
	if len(account.Instances) != 1 {
		return fmt.Errorf("the sandbox began with %d instances; one was expected, where the controller runs", len(account.Instances))
	}
	s.system = account.Instances[0].ID
	if err := s.prepare(ctx); err != nil {
		return err
	}
	s.requester, err = request(ctx, s.box, s.system, s.netprobe)
	return err
}

// rounds until the time is over.
func (s *soak) rounds(ctx context.Context, started time.Time) error {
	for n := s.first; ; n++ {
		if err := s.round(ctx, n); err != nil {
			return err
		}
		last := time.Since(started) > s.limit
		if last || Calm(n) {
			if err := s.drain(ctx, n, last); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		s.rest(ctx)
	}
}

// round: actions and looks beside each other; then recovery.
func (s *soak) round(ctx context.Context, n int) error {
	acting, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.act(acting, n)
	}()
	defer func() {
		stop()
		<-done
	}()
	for acted := false; !acted; {
		if _, err := s.look(ctx); err != nil {
			return err
		}
		select {
		case <-done:
			acted = true
		default:
		}
	}
	return s.settle(ctx, n)
}

// look once, at the pace of the interval.
func (s *soak) look(ctx context.Context) (Observation, error) {
	next := s.before.At.Add(interval)
	select {
	case <-ctx.Done():
		return Observation{}, ctx.Err()
	case <-time.After(time.Until(next)):
	}
	o, err := s.observe(ctx)
	if err != nil {
		return o, fmt.Errorf("looking: %w", errors.Join(err, ctx.Err()))
	}
	violations := s.tracker.see(o.At, judge(o))
	problems := make([]error, len(violations))
	for i, v := range violations {
		problems[i] = v
	}
	return o, errors.Join(problems...)
}

// log an action.
func (s *soak) log(format string, args ...any) {
	line := time.Now().Format("15:04:05.0 ") + fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.actions = append(s.actions, line)
	fmt.Println(line)
}

// tell what was there when it failed: to files, and the short of it to standard error.
func (s *soak) tell(failure error) {
	fmt.Fprintf(os.Stderr, "\nbroken: %v\n\nactions of seed %d:\n", failure, s.seed)
	s.mu.Lock()
	actions := s.actions
	s.mu.Unlock()
	for _, line := range actions {
		fmt.Fprintln(os.Stderr, line)
	}
	fmt.Fprintf(os.Stderr, "\nwhat was there:\n%s", s.user.Diagnose(context.Background()))
	evidence := filepath.Join(s.opts.Dir, "logs", "evidence")
	if err := os.MkdirAll(evidence, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	events := &corev1.EventList{}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.user.Kube.List(ctx, events, client.InNamespace("")); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	for name, object := range map[string]any{
		"actions": actions, "account": s.before.Account, "pods": s.before.Pods, "nodes": s.before.Nodes, "nodeclaims": s.before.Claims,
		"zones": s.before.Zones, "machines": s.before.Machines, "replies": s.before.Replies, "why": s.before.Why, "unread": s.unread, "events": events.Items,
	} {
		content, err := json.MarshalIndent(object, "", "  ")
		if err == nil {
			err = os.WriteFile(filepath.Join(evidence, name+".json"), content, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}
