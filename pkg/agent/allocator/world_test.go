// SPDX-License-Identifier: Apache-2.0

package allocator_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/allocator"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

const cooldown = 30 * time.Second

// world is a node: its pods, the plugin that serves them from the published pool, and the agent's loop around the allocator,
// with a clock of its own.
type world struct {
	t   *testing.T
	rng *rand.Rand
	now time.Time
	log []string // of the last steps, for a failure's message

	cloud     allocator.Cloud
	model     *model // nil with another cloud
	allocator *allocator.Allocator
	demand    allocator.Demand
	subnet    string // of new ENIs

	published []netip.Prefix
	leases    map[netip.Addr]bool
	cooling   map[netip.Addr]time.Time
	waiting   int
	slow      *slowPlugin

	backoff   time.Duration
	notBefore time.Time
	due       time.Time
	lastErr   error
	refused   *v1alpha1.PodSubnetRefusal // the last one
}

// slowPlugin has read the pool, and takes its lease a while later.
type slowPlugin struct {
	published []netip.Prefix
	until     time.Time
}

func (w *world) restart() {
	w.allocator = allocator.New(allocator.Params{
		Cloud: w.cloud, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now }, Rand: rand.New(rand.NewPCG(w.rng.Uint64(), 1)),
		Refused: func(r v1alpha1.PodSubnetRefusal) { w.refused = &r },
	})
	w.backoff, w.notBefore = 0, time.Time{}
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, w.now.Format("15:04:05 ")+fmt.Sprintf(format, args...))
	if len(w.log) > 40 {
		w.log = w.log[1:]
	}
}

func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.log {
		w.t.Log(line)
	}
	require.FailNow(w.t, fmt.Sprintf(format, args...))
}

// mustNotBeUsed: an address that a pod has, that rests, or that a plugin may take now, does not go.
func (w *world) mustNotBeUsed(p netip.Prefix) {
	for a := range w.leases {
		if p.Contains(a) {
			w.failf("%s is given back while a pod has %s", p, a)
		}
	}
	for a, since := range w.cooling {
		if p.Contains(a) && w.now.Sub(since) < cooldown {
			w.failf("%s is given back while %s cools down", p, a)
		}
	}
	if slices.Contains(w.published, p) && slices.ContainsFunc(w.allocator.Pool(), func(e eni.ENI) bool { return slices.Contains(e.Prefixes, p) }) {
		w.failf("%s is given back while plugins may take from it", p)
	}
}

// lease serves a pod as the plugin does: from the fullest prefix that has a free address.
func (w *world) lease(published []netip.Prefix) bool {
	var best netip.Addr
	fullest := -1
	for _, p := range published {
		used, free := 0, netip.Addr{}
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			since, rests := w.cooling[a]
			if w.leases[a] || rests && w.now.Sub(since) < cooldown {
				used++
			} else if !free.IsValid() {
				free = a
			}
		}
		if free.IsValid() && used > fullest {
			best, fullest = free, used
		}
	}
	if fullest < 0 {
		return false
	}
	w.leases[best] = true
	delete(w.cooling, best)
	return true
}

// leaseAny takes whatever is free, so that it hits what is being given back.
func (w *world) leaseAny(published []netip.Prefix) {
	for range 20 {
		if len(published) == 0 {
			return
		}
		p := published[w.rng.IntN(len(published))]
		a := p.Addr()
		if !p.IsSingleIP() {
			for range w.rng.IntN(16) {
				a = a.Next()
			}
		}
		if since, rests := w.cooling[a]; !w.leases[a] && (!rests || w.now.Sub(since) >= cooldown) {
			w.leases[a] = true
			w.note("a slow plugin takes %s", a)
			return
		}
	}
}

func (w *world) servePods() {
	for w.waiting > 0 && w.lease(w.published) {
		w.waiting--
	}
}

// end of some pods.
func (w *world) end(n int) {
	held := slices.SortedFunc(maps.Keys(w.leases), netip.Addr.Compare)
	w.rng.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
	for _, a := range held[:min(n, len(held))] {
		delete(w.leases, a)
		w.cooling[a] = w.now
	}
}

// pass lets time pass; the plugin that was slow is done within the time that the allocator allows.
func (w *world) pass(d time.Duration) {
	target := w.now.Add(d)
	if w.slow != nil && !target.Before(w.slow.until) {
		w.now = w.slow.until
		w.leaseAny(w.slow.published)
		w.slow = nil
	}
	w.now = target
}

// loop is the agent's: refresh, publish, step, as long as there is more to do at once. A crash ends it.
func (w *world) loop() {
	defer func() {
		if r := recover(); r != nil {
			if _, died := r.(crash); !died {
				panic(r)
			}
			w.note("crash")
			w.restart()
		}
	}()
	for turn := 0; ; turn++ {
		if turn > 100 {
			w.failf("no rest after %d steps at one time", turn)
		}
		w.servePods()
		if w.now.Before(w.notBefore) {
			return
		}
		err := w.allocator.Refresh(context.Background())
		if err == nil {
			w.publish()
			w.servePods()
			var result allocator.Result
			result, err = w.step()
			w.due = result.At
			if err == nil && result.Again {
				continue
			}
		}
		w.lastErr = err
		if err == nil {
			w.backoff, w.notBefore = 0, time.Time{}
			return
		}
		w.note("error: %v", err)
		w.backoff = min(max(2*w.backoff, time.Second), 2*time.Minute)
		w.notBefore = w.now.Add(w.backoff)
	}
}

func (w *world) publish() {
	w.published = nil
	for _, e := range w.allocator.Pool() {
		w.published = append(w.published, e.Prefixes...)
	}
}

func (w *world) step() (allocator.Result, error) {
	d := w.demand
	d.Waiting, d.Published = w.waiting, w.published
	d.Leased = slices.Collect(maps.Keys(w.leases))
	d.Cooling = nil
	for a, since := range w.cooling {
		if w.now.Sub(since) < cooldown {
			d.Cooling = append(d.Cooling, a)
		}
	}
	d.Place = func(context.Context) (allocator.Place, error) { return allocator.Place{Subnet: w.subnet}, nil }
	return w.allocator.Step(context.Background(), d)
}

// rest lets so much time pass without any change of the demand.
func (w *world) rest(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.loop()
		w.pass(time.Duration(1+w.rng.IntN(240)) * time.Second)
	}
	w.loop()
}

func newModelWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1e9, 0).UTC(),
		leases: map[netip.Addr]bool{}, cooling: map[netip.Addr]time.Time{}, subnet: "subnet-a",
	}
	w.model = &model{w: w, slots: 9, limit: 4, enis: map[string]*modelENI{}, subnets: map[string]*space{
		"subnet-a": newSpace("100.64.0.0", 40), "subnet-b": newSpace("100.65.0.0", 12),
	}}
	w.model.enis["eni-000000"] = &modelENI{ENI: eni.ENI{ID: "eni-000000"}, attached: true}
	w.cloud = w.model
	w.demand = allocator.Demand{Geometry: podcapacity.Geometry{ENIs: 4, IPsPerENI: 10, PrefixCapable: true}, Prefixes: true, Targets: pool.Targets{Prefix: 1, ENI: 1}}
	w.restart()
	return w
}

// invariants hold at any time.
func (w *world) invariants() {
	there := map[netip.Prefix]bool{}
	for _, e := range w.model.enis {
		if !e.attached {
			continue
		}
		if len(e.Prefixes) > w.model.slots {
			w.failf("ENI %s has %d of %d slots", e.ID, len(e.Prefixes), w.model.slots)
		}
		for _, p := range e.Prefixes {
			if there[p] {
				w.failf("%s is there twice", p)
			}
			there[p] = true
		}
	}
	for a := range w.leases {
		single, block := netip.PrefixFrom(a, 32), netip.PrefixFrom(a, 28).Masked()
		if !there[single] && !there[block] {
			w.failf("a pod has %s, which no ENI has", a)
		}
	}
	if n := w.model.attachedCount(); n > w.model.limit {
		w.failf("%d ENIs are attached", n)
	}
}

// calm checks a node whose demand has been steady for long, in a cloud without trouble.
func (w *world) calm() {
	own, slots, blocks, total := 0, 0, 0, 0
	var all []netip.Prefix
	for _, e := range w.model.enis {
		switch {
		case !e.Ours:
			continue
		case !e.attached || e.detaching:
			w.failf("ENI %s is left behind", e.ID)
		case !e.DeleteOnTermination:
			w.failf("ENI %s would outlive the instance", e.ID)
		}
		own++
		all = append(all, e.Prefixes...)
		space := w.model.subnets[e.Subnet]
		if left := w.model.slots - len(e.Prefixes); left > 0 && len(space.freeAddresses()) > 0 {
			slots += left
			blocks += len(space.freeBlocks())
		}
	}
	total = pool.Addresses(all)
	w.publish()
	slices.SortFunc(all, netip.Prefix.Compare)
	published := slices.SortedFunc(slices.Values(w.published), netip.Prefix.Compare)
	if !slices.Equal(all, published) {
		w.failf("lost: EC2 has %v, published are %v", all, published)
	}
	if w.model.attachedCount() < w.limitOfENIs() && len(w.model.subnets[w.subnet].freeAddresses()) > 1 {
		slots += w.model.slots
		blocks += len(w.model.subnets[w.subnet].freeBlocks())
	}
	more := slots > 0
	if w.demand.Prefixes && blocks == 0 {
		more = slots > 1 // the last one waits for a /28
	}
	available := total - len(w.leases)
	target := w.target()
	low := available < target || total < w.demand.Targets.MinimumIP
	if w.demand.MaxPods > 0 && total >= w.demand.MaxPods {
		low = false
	}
	if (low || w.waiting > 0) && more {
		w.failf("%d pods wait, %d of %d addresses are available, the target is %+v (max-pods %d), and more can be had: %v",
			w.waiting, available, total, w.demand.Targets, w.demand.MaxPods, w.lastErr)
	}
}

func (w *world) limitOfENIs() int { return w.model.limit - w.demand.ReservedENIs }

// target is the number of available addresses that the documentation of aws-node's variables promises.
func (w *world) target() int {
	targets := w.demand.Targets
	switch {
	case targets.IP > 0 || targets.MinimumIP > 0:
		return targets.IP
	case w.demand.Prefixes:
		return max(targets.Prefix*16, 1)
	default:
		return max(targets.ENI*w.model.slots, 1)
	}
}

// fragmented: some subnet that matters has addresses and no /28. Then prefixes are tried again now and then.
func (w *world) fragmented() bool {
	for _, s := range w.model.subnets {
		if len(s.freeBlocks()) == 0 {
			return true
		}
	}
	return false
}
