// SPDX-License-Identifier: Apache-2.0

package allocator_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// A hundred thousand steps of random demand, faults, deaths of the agent and rivals for the subnets: no address is given back
// while a pod has it or may get it, none is lost, no ENI is left behind, the targets are reached where that is possible, and
// a steady demand makes no request that has an effect.
func TestThePoolFollowsItsDemandWhateverHappens(t *testing.T) {
	const worlds, stepsEach, calmEvery = 20, 5000, 250
	for seed := range uint64(worlds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newModelWorld(t, seed)
			var rivals []netip.Prefix
			for step := range stepsEach {
				w.chance(&rivals)
				w.invariants()
				if step%calmEvery == calmEvery-1 {
					w.calmDown()
				}
			}
		})
	}
}

// chance lets something happen.
func (w *world) chance(rivals *[]netip.Prefix) {
	switch n := w.rng.IntN(100); {
	case n < 30:
		w.waiting += 1 + w.rng.IntN(3)
		w.note("%d pods wait", w.waiting)
	case n < 33:
		w.waiting += w.rng.IntN(60)
		w.note("a burst: %d pods wait", w.waiting)
	case n < 58:
		w.end(1 + w.rng.IntN(4))
	case n < 61:
		w.end(w.rng.IntN(len(w.leases) + 1))
		w.note("many pods end, %d stay", len(w.leases))
	case n < 62:
		w.waiting = 0 // they were deleted
	case n < 64:
		w.note("restart")
		w.restart()
	case n < 70:
		if w.slow == nil {
			w.slow = &slowPlugin{published: w.published, until: w.now.Add(time.Duration(w.rng.IntN(9)) * time.Second)}
		}
	case n < 73:
		w.model.trouble = []float64{0, 0, 0.05, 0.3}[w.rng.IntN(4)]
	case n < 75:
		w.demand.Targets = pool.Targets{Prefix: w.rng.IntN(4), ENI: w.rng.IntN(3)}
		if w.rng.IntN(2) == 0 {
			w.demand.Targets.IP, w.demand.Targets.MinimumIP = w.rng.IntN(30), w.rng.IntN(60)
		}
		w.demand.MaxPods = w.rng.IntN(2) * (20 + w.rng.IntN(100))
		w.note("targets %+v, max-pods %d", w.demand.Targets, w.demand.MaxPods)
	case n < 76:
		w.demand.Prefixes = !w.demand.Prefixes
		w.note("prefixes %v", w.demand.Prefixes)
	case n < 77:
		w.demand.ReservedENIs = w.rng.IntN(2)
	case n < 78:
		w.subnet = []string{"subnet-a", "subnet-b"}[w.rng.IntN(2)]
	case n < 81:
		w.rival(rivals)
	default:
		w.pass(time.Duration(w.rng.IntN(60)) * time.Second)
	}
	w.loop()
	w.pass(time.Duration(w.rng.IntN(5)) * time.Second)
}

// rival takes addresses of a subnet, in blocks or scattered, or gives them back.
func (w *world) rival(taken *[]netip.Prefix) {
	space := w.model.subnets[[]string{"subnet-a", "subnet-b"}[w.rng.IntN(2)]]
	if w.rng.IntN(3) == 0 {
		for _, p := range *taken {
			for _, s := range w.model.subnets {
				if s.first.As4()[1] == p.Addr().As4()[1] {
					s.set(p, false)
				}
			}
		}
		*taken = nil
		return
	}
	unit := []pool.Unit{pool.Prefix, pool.SingleAddress}[w.rng.IntN(2)]
	count := w.rng.IntN(12)
	if unit == pool.SingleAddress {
		count = w.rng.IntN(len(space.freeAddresses())/4 + 1)
	}
	if got, err := space.give(w.rng, unit, count); err == nil {
		*taken = append(*taken, got...)
	}
}

func (w *world) calmDown() {
	trouble := w.model.trouble
	w.model.trouble = 0
	w.note("calm")
	w.rest(4 * time.Hour)
	w.calm()
	effects := w.model.effects
	w.rest(3 * time.Hour)
	w.calm()
	allowed := 0
	if w.fragmented() {
		allowed = 3 * (3 + 1) // tries of prefixes in the place of single addresses, at most one in about an hour
	}
	if n := w.model.effects - effects; n > allowed {
		w.failf("%d requests had an effect while nothing changed", n)
	}
	w.model.trouble = trouble
}
