// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"
)

const (
	// settle is how long after the first of the kernel's events it looks: they come in bursts.
	settle = 100 * time.Millisecond
	// slowPeriod of a look at everything, whatever events say: for what has no events, such as sysctls.
	slowPeriod = 30 * time.Second
)

// Keeper keeps the kernel at the state that was applied last. It depends on nothing but the kernel: while EC2 or the API
// server is away or slow, what somebody takes away still comes back at once. Against a program that undoes each repair it repairs ever
// more slowly.
type Keeper struct {
	// Pods lists the pods that hold addresses at the time.
	Pods func() ([]Pod, error)
	Log  *slog.Logger
	// LinksChanged is called when links came, went or changed: an attached ENI may have become visible.
	LinksChanged func()
	// Repaired is called with what was changed though nothing else was wanted than before: somebody had changed it.
	Repaired func([]Change)
	// Contested is called when an object was repaired again and again: another program undoes it. Once for each, until it is
	// left alone.
	Contested func(Change)
	// Failed is called when the kernel could not be made right.
	Failed func(error)
	// SysctlDir is State.SysctlDir of all states.
	SysctlDir string
	// Period of a look at everything when there are no events; 30 seconds where it is zero.
	Period time.Duration

	mu      sync.Mutex
	state   *State
	contest contest
	quiet   time.Time // no repair before it
}

// Apply makes the kernel hold the state from now on.
func (k *Keeper) Apply(s State) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	repair := k.state != nil && reflect.DeepEqual(*k.state, s)
	if repair && time.Now().Before(k.quiet) {
		return nil
	}
	k.state = &s
	return k.apply(repair)
}

// Compare returns the state that is kept, and what the kernel has otherwise. It changes nothing. The state is nil before the
// first Apply.
func (k *Keeper) Compare() (s *State, changes []Change, err error) {
	k.mu.Lock()
	s = k.state
	k.mu.Unlock()
	if s == nil {
		return nil, nil, nil
	}
	wanted, err := k.withPods(*s)
	changes, compareErr := Compare(wanted)
	return &wanted, changes, errors.Join(err, compareErr)
}

// Run repairs until the context ends.
func (k *Keeper) Run(ctx context.Context) error {
	events, err := watch(ctx)
	if err != nil {
		return err
	}
	paused := time.NewTimer(k.repair()) // of what changed before the subscription
	defer paused.Stop()
	slow := time.NewTicker(cmp.Or(k.Period, slowPeriod))
	defer slow.Stop()
	for {
		linksChanged := false
		select {
		case <-ctx.Done():
			return nil
		case <-slow.C:
		case <-paused.C:
		case linksChanged = <-events:
			linksChanged = settled(ctx, events) || linksChanged
		}
		if pause := k.repair(); pause > 0 {
			paused.Reset(pause)
		}
		if linksChanged && k.LinksChanged != nil {
			k.LinksChanged()
		}
	}
}

// settled takes the rest of a burst.
func settled(ctx context.Context, events <-chan bool) (links bool) {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	for {
		select {
		case l := <-events:
			links = links || l
		case <-timer.C:
			return links
		case <-ctx.Done():
			return links
		}
	}
}

// repair returns when to look again, whatever events say; 0: at the next event or slow period.
func (k *Keeper) repair() (pause time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if pause := time.Until(k.quiet); pause > 0 {
		return pause
	}
	if k.state == nil {
		return 0
	}
	if err := k.apply(true); err != nil {
		k.Log.Error("repairing the datapath", "error", err)
	}
	return max(time.Until(k.quiet), 0)
}

func (k *Keeper) apply(repair bool) error {
	s, err := k.withPods(*k.state)
	if err != nil { // the rest must not wait for them
		k.Log.Error("datapath: their routes stay as they are", "error", err)
	}
	changes, err := Apply(s)
	message := "datapath"
	if repair {
		message = "repaired the datapath"
		if k.Repaired != nil && len(changes) > 0 {
			k.Repaired(changes)
		}
		k.contend(changes)
	}
	for _, change := range changes {
		k.Log.Info(message, "change", change.String())
	}
	if err != nil && k.Failed != nil {
		k.Failed(err)
	}
	return err
}

// contend slows down where another program undoes what was repaired.
func (k *Keeper) contend(changes []Change) {
	now := time.Now()
	pause, found := k.contest.repaired(now, changes)
	k.quiet = now.Add(pause)
	for _, change := range found {
		k.Log.Warn("another program undoes repairs of the datapath; they come ever more slowly now", "change", change.String(), "longest pause", lastPause)
		if k.Contested != nil {
			k.Contested(change)
		}
	}
}

func (k *Keeper) withPods(s State) (State, error) {
	s.SysctlDir = k.SysctlDir
	if k.Pods == nil {
		return s, nil
	}
	var err error
	if s.Pods, err = k.Pods(); err != nil {
		return s, fmt.Errorf("reading which pods hold addresses: %w", err)
	}
	return s, nil
}
