// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"math"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// account of one subnet.
type account struct {
	snapshot *Snapshot
	wanted   time.Time
	aside    map[string]*commitment // by owner
	refusal  refusal
	total    podcapacity.Need // of aside, less what is held; see outstanding
	stale    bool             // total is
	chosen   time.Time        // when the last launch took room
	expiry   time.Time        // the first of aside's, zero for none
}

// commitment to one node.
type commitment struct {
	need podcapacity.Need
	// instance that it is for, "" until it is known.
	instance string
	// launching until EC2 has answered; among is the number of subnets that it may choose from.
	launching bool
	among     int
	// stamped: the NodeClaim says so itself, and its disappearance says that the instance is gone.
	stamped bool
	// gone: the NodeClaim disappeared during its launch.
	gone bool
	// expires says when a commitment in doubt ends; zero: never.
	expires time.Time
}

type refusal struct {
	code  string
	until time.Time
	at    time.Time
	free  Capacity // at that time
}

// room at a time.
func (a *account) room(now time.Time) Room { return a.roomBeyond(a.outstanding(now), now) }

// withoutUndecided is the room that there will be, should EC2 choose other zones for all launches that hold room in several.
func (a *account) withoutUndecided(now time.Time) Room {
	var total podcapacity.Need
	for _, c := range a.aside {
		if c.among < 2 && (c.expires.IsZero() || now.Before(c.expires)) {
			total = total.Plus(a.beyondHeld(c))
		}
	}
	return a.roomBeyond(total, now)
}

func (a *account) roomBeyond(aside podcapacity.Need, now time.Time) Room {
	if a.snapshot == nil {
		return Room{}
	}
	free := a.snapshot.Capacity
	room := Room{
		Known: true, Apart: free.Reserved > 0, Promised: aside.Prefixes > 0,
		Free: Charge{Blocks: free.FreePrefixes, Addresses: free.FreeAddresses},
	}
	room.Aside = chargeOf(aside, room.Apart)
	if now.Before(a.refusal.until) {
		room.Refused = a.refusal.code
	}
	return room
}

// outstanding is what is set aside and not held. It is counted again after a change only.
func (a *account) outstanding(now time.Time) podcapacity.Need {
	if !a.stale && (a.expiry.IsZero() || now.Before(a.expiry)) {
		return a.total
	}
	a.total, a.expiry, a.stale = podcapacity.Need{}, time.Time{}, false
	for _, c := range a.aside {
		if !c.expires.IsZero() {
			if !now.Before(c.expires) {
				continue
			}
			if a.expiry.IsZero() || c.expires.Before(a.expiry) {
				a.expiry = c.expires
			}
		}
		a.total = a.total.Plus(a.beyondHeld(c))
	}
	return a.total
}

func (a *account) beyondHeld(c *commitment) podcapacity.Need {
	if a.snapshot == nil || c.instance == "" {
		return c.need
	}
	return c.need.Beyond(a.snapshot.Held[c.instance])
}

// attraction for a launch: see Ledger.Attraction.
func (a *account) attraction(now time.Time, need podcapacity.Need) int {
	room := a.room(now)
	switch {
	case !room.Known:
		return 0
	case now.Sub(a.chosen) < together:
		return 2 * min(room.Nodes(need), math.MaxInt/2)
	default:
		return room.Nodes(need)
	}
}
