// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

const (
	// doubtTTL is how long the need of a launch stays set aside when nobody knows whether there is an instance. Karpenter ends
	// an instance without a NodeClaim when it is 30 s old, and looks every two minutes.
	doubtTTL = 3 * time.Minute
	// suspectTTL is the same after a restart: for the first minutes it looks every ten seconds.
	suspectTTL = 90 * time.Second
	// refusalTTL keeps launches from a pod subnet that has refused one, as upstream's unavailable offerings do.
	refusalTTL = 3 * time.Minute
	// patience bounds the wait for launches that hold room in several zones until EC2 has chosen one.
	patience = 15 * time.Second
	// wantedTTL is how long a subnet is read after nobody wants it any more. Those who do say so each minute.
	wantedTTL = 10 * time.Minute
	// together is how long upstream waits for launches that it can ask EC2 for in one request.
	together = time.Second
	// shortTTL is how long a subnet counts as short after somebody found no room there.
	shortTTL = time.Minute
)

// Place is where a node's pods would have their addresses from.
type Place struct {
	Zone, ENIConfig, Subnet string
}

func (p Place) String() string {
	return fmt.Sprintf("pod subnet %s (zone %s, ENIConfig %s)", p.Subnet, p.Zone, p.ENIConfig)
}

// Ledger knows what pod subnets have for new nodes. From the latest reading of each subnet it subtracts what is set aside:
// for every node, from before its launch until it is gone, all that it can ever need less what it holds already. So a pod
// that was scheduled to a node never finds its pod subnet full; see designs/capacity.md.
//
// It neither reads EC2 nor the cluster: others tell it what they saw.
type Ledger struct {
	clock clock.Clock

	mu       sync.Mutex
	accounts map[string]*account // by subnet
	owners   map[string][]string // the subnets where an owner has something set aside
	doubts   int                 // ever
	changed  chan struct{}       // closed when something was given back
	demand   chan struct{}
	launched time.Time // when the last node was launched
	short    time.Time // when somebody last found no room
}

// NewLedger knows of nothing.
func NewLedger(c clock.Clock) *Ledger {
	return &Ledger{
		clock: c, accounts: map[string]*account{}, owners: map[string][]string{}, changed: make(chan struct{}), demand: make(chan struct{}, 1),
	}
}

// Want says that the subnets are somebody's pod subnets, so that they are read for a while from now on.
func (l *Ledger) Want(subnets ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range subnets {
		if id == "" {
			continue
		}
		if _, ok := l.accounts[id]; !ok {
			l.poke()
		}
		l.account(id).wanted = l.clock.Now()
	}
}

// Wanted are the subnets to read, sorted: those that somebody wants, and those that nodes have something set aside in.
func (l *Ledger) Wanted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.accounts, func(_ string, a *account) bool { return len(a.aside) == 0 && l.clock.Since(a.wanted) > wantedTTL })
	return slices.Sorted(maps.Keys(l.accounts))
}

// Observe takes the reading of a subnet. One that began before the present one is ignored.
func (l *Ledger) Observe(snapshots ...*Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	for _, s := range snapshots {
		a := l.account(s.Subnet)
		if a.snapshot != nil && s.Read.Before(a.snapshot.Read) {
			continue
		}
		a.snapshot, a.stale = s, true
		better := s.Capacity.FreePrefixes > a.refusal.free.FreePrefixes || s.Capacity.FreeAddresses > a.refusal.free.FreeAddresses
		if a.refusal.code != "" && s.Read.After(a.refusal.at) && better {
			a.refusal = refusal{}
		}
	}
	l.wake()
}

// Lost tells that EC2 shows a subnet no longer: nothing can be launched there.
func (l *Ledger) Lost(subnet string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, ok := l.accounts[subnet]; ok {
		a.snapshot, a.stale = nil, true
	}
}

// Snapshot of a subnet, nil before its first reading.
func (l *Ledger) Snapshot(subnet string) *Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, ok := l.accounts[subnet]; ok {
		return a.snapshot
	}
	return nil
}

// Room of a subnet now.
func (l *Ledger) Room(subnet string) Room {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, ok := l.accounts[subnet]; ok {
		return a.room(l.clock.Now())
	}
	return Room{}
}

// Attraction of a subnet for a launch of such a need: the number of nodes that it has room for, twice that while launches of this
// moment take room there. Launches in the same place share a request to EC2; always to go where there is a little more room would have
// each take another.
func (l *Ledger) Attraction(subnet string, need podcapacity.Need) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, ok := l.accounts[subnet]; ok {
		return a.attraction(l.clock.Now(), need)
	}
	return 0
}

// Prospect is the room that there will be, should EC2 choose other zones for all launches that hold room in several: who only
// plans a launch must not take that room for gone. Reserve waits until it is decided.
func (l *Ledger) Prospect(subnet string) Room {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, ok := l.accounts[subnet]; ok {
		return a.withoutUndecided(l.clock.Now())
	}
	return Room{}
}

// MarkRefused keeps launches from a subnet after EC2 has refused addresses of it: for a while, or until a later reading shows
// more room.
func (l *Ledger) MarkRefused(subnet, code string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse(subnet, code, l.clock.Now())
}

// ReportRefused takes what a node says that EC2 has answered it at a time. It has no effect, and returns false, when a later reading or
// refusal knows better, or when it was too long ago.
func (l *Ledger) ReportRefused(subnet, code string, at time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, now := l.accounts[subnet], l.clock.Now()
	if at.After(now) {
		at = now // by the node's clock
	}
	if a == nil || !at.After(a.refusal.at) || now.Sub(at) >= refusalTTL || a.snapshot != nil && !at.After(a.snapshot.Read) {
		return false
	}
	l.refuse(subnet, code, at)
	return true
}

func (l *Ledger) refuse(subnet, code string, at time.Time) {
	a := l.account(subnet)
	a.refusal = refusal{code: code, at: at, until: at.Add(refusalTTL)}
	if a.snapshot != nil {
		a.refusal.free = a.snapshot.Capacity
	}
	l.short = l.clock.Now()
	l.poke()
}

// Request for room for a node that is about to be launched.
type Request struct {
	// Owner is the NodeClaim's name.
	Owner string
	Need  podcapacity.Need
	// Zones that EC2 may choose from, each with the places that can serve there.
	Zones [][]Place
}

// Refusal says why a place was not given.
type Refusal struct {
	Place
	Reason string
}

// Reserve sets the need aside in one place of each zone that has room, before EC2 is called: nobody can know which zone it
// chooses. It is the place with the most room, or the one that launches of this moment take already while it has half of that. With that, what
// the owner had set aside for an earlier launch is given back. Where nothing is left only because other launches hold room in
// several zones, it waits for EC2 to choose.
func (l *Ledger) Reserve(ctx context.Context, request Request) ([]Place, []Refusal) {
	timer := l.clock.NewTimer(patience)
	defer timer.Stop()
	for {
		places, refusals, changed := l.reserve(request)
		if len(places) > 0 || changed == nil {
			return places, refusals
		}
		select {
		case <-changed:
		case <-timer.C():
			return nil, refusals
		case <-ctx.Done():
			return nil, refusals
		}
	}
}

// reserve returns a channel to wait on where waiting can help.
func (l *Ledger) reserve(request Request) (places []Place, refusals []Refusal, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.release(request.Owner)
	now := l.clock.Now()
	for _, zone := range request.Zones {
		best, most := Place{}, 0
		for _, place := range zone {
			if nodes := l.account(place.Subnet).attraction(now, request.Need); nodes > most {
				best, most = place, nodes
			}
		}
		if most > 0 {
			places = append(places, best)
			continue
		}
		for _, place := range zone {
			a := l.accounts[place.Subnet]
			refusals = append(refusals, Refusal{Place: place, Reason: a.room(now).Explain(request.Need)})
			if a.withoutUndecided(now).Nodes(request.Need) > 0 {
				changed = l.changed
			}
		}
	}
	for _, place := range places {
		l.set(request.Owner, place.Subnet, &commitment{need: request.Need, launching: true, among: len(places)})
		l.account(place.Subnet).chosen = now
	}
	if len(places) == 0 {
		l.short = now
		l.poke()
	}
	return places, refusals, changed
}

// Kept is what a launch came to.
type Kept struct {
	Owner, Subnet, Instance string
	// Need of the instance type that came.
	Need podcapacity.Need
}

// Keep the room in the subnet that EC2 chose for the instance, and give back the rest.
func (l *Ledger) Keep(kept Kept) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := slices.ContainsFunc(l.owners[kept.Owner], func(subnet string) bool { return l.accounts[subnet].aside[kept.Owner].gone })
	l.release(kept.Owner)
	l.launched = l.clock.Now()
	c := &commitment{need: kept.Need, instance: kept.Instance}
	if gone {
		c.expires = l.launched.Add(doubtTTL)
	}
	l.set(kept.Owner, kept.Subnet, c)
	l.poke()
}

// Release gives back what was set aside for a launch that has failed.
func (l *Ledger) Release(owner string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.release(owner)
}

// Doubt keeps for a while what was set aside for a launch of which nobody knows how it ended. The NodeClaim may be launched
// again meanwhile: that is another instance.
func (l *Ledger) Doubt(owner string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubt(owner)
}

// Suspect sets a need aside as Doubt does, in each of the subnets, for a launch that a controller before this one may have made.
func (l *Ledger) Suspect(owner string, need podcapacity.Need, subnets ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubts++
	name := fmt.Sprintf("%s (in doubt, %d)", owner, l.doubts)
	for _, subnet := range subnets {
		l.set(name, subnet, &commitment{need: need, expires: l.clock.Now().Add(suspectTTL)})
	}
}

// Stamped takes what a launched NodeClaim says of itself.
func (l *Ledger) Stamped(owner, subnet string, need podcapacity.Need, instance string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, ok := l.accounts[subnet]; ok && a.aside[owner] != nil {
		if c := a.aside[owner]; c.need == need && c.instance == instance && !c.launching {
			c.stamped, c.expires, a.stale = true, time.Time{}, true
			return
		}
	}
	if l.launching(owner) {
		return // by a Create under way, whose instance is the newer one
	}
	l.release(owner)
	l.set(owner, subnet, &commitment{need: need, instance: instance, stamped: true})
}

// Gone gives back what was set aside for a NodeClaim that is no more. Where it had not been seen launched its instance may live
// on for a while.
func (l *Ledger) Gone(owner string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, subnet := range slices.Clone(l.owners[owner]) {
		switch c := l.accounts[subnet].aside[owner]; {
		case c.stamped:
			l.release(owner)
		case c.launching:
			c.gone = true
		case c.expires.IsZero():
			c.expires, l.accounts[subnet].stale = l.clock.Now().Add(doubtTTL), true
		}
	}
}

// Owners that have something set aside and are not in doubt, sorted.
func (l *Ledger) Owners() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var owners []string
	for owner, subnets := range l.owners {
		if l.accounts[subnets[0]].aside[owner].expires.IsZero() {
			owners = append(owners, owner)
		}
	}
	slices.Sort(owners)
	return owners
}

// Demand tells that a reading is wanted soon.
func (l *Ledger) Demand() <-chan struct{} { return l.demand }

// NoteShort tells that nodes of some need found no room.
func (l *Ledger) NoteShort() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	if now.Sub(l.short) > shortTTL { // who is short already reads often
		l.poke()
	}
	l.short = now
}

// Urgent tells whether nodes have been launched since, or something is short.
func (l *Ledger) Urgent(since time.Time) (launched, short bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.launched.After(since), !l.short.IsZero() && l.clock.Since(l.short) < shortTTL
}

func (l *Ledger) account(subnet string) *account {
	a, ok := l.accounts[subnet]
	if !ok {
		a = &account{aside: map[string]*commitment{}, wanted: l.clock.Now()}
		l.accounts[subnet] = a
	}
	return a
}

func (l *Ledger) set(owner, subnet string, c *commitment) {
	a := l.account(subnet)
	if _, ok := a.aside[owner]; !ok {
		l.owners[owner] = append(l.owners[owner], subnet)
	}
	a.aside[owner], a.stale = c, true
}

func (l *Ledger) release(owner string) {
	subnets, ok := l.owners[owner]
	if !ok {
		return
	}
	for _, subnet := range subnets {
		a := l.accounts[subnet]
		delete(a.aside, owner)
		a.stale = true
	}
	delete(l.owners, owner)
	l.wake()
}

// expire removes the commitments in doubt whose time is over; they have not counted since.
func (l *Ledger) expire() {
	now := l.clock.Now()
	for owner, subnets := range l.owners {
		if c := l.accounts[subnets[0]].aside[owner]; !c.expires.IsZero() && !now.Before(c.expires) {
			l.release(owner)
		}
	}
}

func (l *Ledger) doubt(owner string) {
	l.doubts++
	name := fmt.Sprintf("%s (in doubt, %d)", owner, l.doubts)
	for _, subnet := range slices.Clone(l.owners[owner]) {
		c := *l.accounts[subnet].aside[owner]
		c.launching, c.among, c.expires = false, 0, l.clock.Now().Add(doubtTTL)
		l.set(name, subnet, &c)
	}
	l.release(owner)
}

func (l *Ledger) launching(owner string) bool {
	return slices.ContainsFunc(l.owners[owner], func(subnet string) bool { return l.accounts[subnet].aside[owner].launching })
}

func (l *Ledger) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Ledger) poke() {
	select {
	case l.demand <- struct{}{}:
	default:
	}
}
