// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"net/netip"
)

// PrefixLength is the length of a delegated IPv4 prefix; EC2 knows no other.
const PrefixLength = 28

// Unit is what fills one address slot of an ENI, valued by its number of addresses.
type Unit int

const (
	// SingleAddress is one secondary private address.
	SingleAddress Unit = 1
	// Prefix is one delegated /28.
	Prefix Unit = 1 << (32 - PrefixLength)
)

func (u Unit) String() string {
	if u == Prefix {
		return "prefix"
	}
	return "address"
}

// unitsFor is how many units hold so many addresses.
func (u Unit) unitsFor(addresses int) int { return (addresses + int(u) - 1) / int(u) }

// Geometry is what an instance type's pod addresses depend on.
type Geometry struct {
	// ENIs on the default network card, the primary one included (MAX_ENI lowers it).
	ENIs int
	// AddressesPerENI counts IPv4 address slots, the ENI's own address included.
	AddressesPerENI int
}

// podSlots are the slots of one pod ENI that can hold pod addresses.
func (g Geometry) podSlots() int { return max(g.AddressesPerENI-1, 0) }

// Block fills one slot of an ENI: a delegated /28, or a single address.
type Block struct {
	Prefix netip.Prefix
	// Leased and Cooling count its addresses that pods have, and that rest.
	Leased, Cooling int
	// Returning: no longer published, so that it can be given back. It is still there, and counts.
	Returning bool
}

func (b Block) size() int { return 1 << (b.Prefix.Addr().BitLen() - b.Prefix.Bits()) }

func (b Block) used() int { return b.Leased + b.Cooling }

func (b Block) single() bool { return b.size() == int(SingleAddress) }

// AttachedENI is a pod ENI as far as the decision needs it.
type AttachedENI struct {
	ID          string
	DeviceIndex int
	Blocks      []Block
	// Unit in which its subnet gives more now; 0: its subnet has just refused.
	Unit Unit
}

func (e AttachedENI) used() (n int) {
	for _, b := range e.Blocks {
		n += b.used()
	}
	return n
}

// Input is everything that Decide looks at.
type Input struct {
	Geometry Geometry
	Targets  Targets
	// Prefixes: the pod network wants them and the instance type takes them. Where a subnet has none left, units are single
	// addresses, and the targets are still those of prefixes.
	Prefixes bool
	// MaxPods of the node: nothing is kept warm beyond as many addresses. Zero: not known.
	MaxPods int
	// PodENIs are the attached ENIs that hold pod addresses.
	PodENIs []AttachedENI
	// OtherENIs counts the attached interfaces that hold none: the primary one, those that somebody else attached, and
	// those that are being detached.
	OtherENIs int
	// ReservedENIs are left to others, besides the primary one (RESERVED_ENIS).
	ReservedENIs int
	// CreateUnit is the unit in which a new ENI's subnet gives now; 0: it has just refused.
	CreateUnit Unit
	// Most bounds what one request asks for, where the subnet has refused more; 0: no bound.
	Most int
	// Waiting counts pods that are bound to the node and have no address.
	Waiting int
	// UsageUnknown: nothing may be given back now.
	UsageUnknown bool
}

// Action is the kind of step that a Plan consists of.
type Action string

const (
	// Satisfied says that nothing is missing, and nothing is too much.
	Satisfied Action = "Satisfied"
	// Assign more units to an attached ENI.
	Assign Action = "Assign"
	// Create and attach an ENI that brings its units along.
	Create Action = "Create"
	// Release gives back what is neither used nor wanted.
	Release Action = "Release"
	// Exhausted says that more is wanted, and the instance or the subnets allow none.
	Exhausted Action = "Exhausted"
)

// Return is what one ENI gives back.
type Return struct {
	ENI string
	// Whole: the ENI itself, with all that it has.
	Whole    bool
	Prefixes []netip.Prefix
}

// Plan is what to do next: one EC2 operation to get more, or what to give back.
type Plan struct {
	Action Action
	// ENI to assign to.
	ENI string
	// Count of Units to ask for.
	Count int
	Unit  Unit
	// Returns of a Release.
	Returns []Return
	// Reason for a log line or an event.
	Reason string
}

// Decide chooses the next step. A /28 on an attached ENI comes before a new ENI, because it costs one call instead of three
// and no ENI of the account; single addresses come last. The whole need is asked for at once. What is given back is never
// wanted again by the same input, so that a steady demand meets a steady pool.
func Decide(in Input) Plan {
	if in.enough() {
		if returns := in.surplus(); len(returns) > 0 && !in.UsageUnknown {
			return Plan{Action: Release, Returns: returns, Reason: "more addresses than the targets ask for"}
		}
		return Plan{Action: Satisfied}
	}
	if in.Prefixes {
		if plan, ok := in.grow(Prefix); ok {
			return plan
		}
		if plan, ok := in.makeRoom(); ok {
			return plan
		}
	}
	if plan, ok := in.grow(SingleAddress); ok {
		return plan
	}
	return Plan{Action: Exhausted, Reason: in.limit()}
}

// grow asks for units of one kind, where there is a place that gives them.
func (in Input) grow(unit Unit) (Plan, bool) {
	units := in.units(unit)
	plan := Plan{Unit: unit}
	eni, room, ok := in.bestENI(unit, units)
	switch {
	case ok:
		plan.Action, plan.ENI = Assign, eni.ID
		plan.Reason = fmt.Sprintf("%d more of unit %s wanted, ENI %s has %d free slots", units, unit, eni.ID, room)
	case in.CreateUnit == unit && in.attachable() > 0 && in.Geometry.podSlots() > 0:
		plan.Action, room = Create, in.Geometry.podSlots()
		plan.Reason = fmt.Sprintf("%d more of unit %s wanted, %d more ENIs can be attached", units, unit, in.attachable())
	default:
		return Plan{}, false
	}
	if in.wholeENIs() {
		units = in.withinMaxPods(room, max(units, 1), unit)
	}
	plan.Count = min(units, room)
	if unit == SingleAddress {
		plan.Count = min(plan.Count, in.slotsLeft()-in.kept())
	}
	if in.Most > 0 {
		plan.Count = min(plan.Count, in.Most)
	}
	return plan, plan.Count > 0
}

// kept is the slot that single addresses leave to a /28 where prefixes are wanted. Pods hold on to their addresses: a node whose
// last slot went to one of them would have no address for the next pod, however many /28s its subnet has by then.
func (in Input) kept() int {
	if in.Prefixes && (len(in.PodENIs)+in.attachable())*in.Geometry.podSlots() > 1 {
		return 1
	}
	return 0
}

// slotsLeft on attached ENIs, and on those that can be attached.
func (in Input) slotsLeft() int {
	left := max(in.attachable(), 0) * in.Geometry.podSlots()
	for _, eni := range in.PodENIs {
		left += max(in.room(eni), 0)
	}
	return left
}

// makeRoom takes slots from free single addresses for /28s, now that the subnet may have some again. It is for warmth only:
// a pod that waits takes the address.
func (in Input) makeRoom() (Plan, bool) {
	if in.Waiting > 0 || in.UsageUnknown {
		return Plan{}, false
	}
	units := in.units(Prefix)
	for _, eni := range in.PodENIs {
		if eni.Unit != Prefix || in.room(eni) > 0 {
			continue
		}
		back := Return{ENI: eni.ID}
		for _, b := range eni.Blocks {
			if b.single() && b.used() == 0 && len(back.Prefixes) < units {
				back.Prefixes = append(back.Prefixes, b.Prefix)
			}
		}
		if len(back.Prefixes) > 0 {
			return Plan{Action: Release, Returns: []Return{back}, Reason: "single addresses make room for prefixes"}, true
		}
	}
	return Plan{}, false
}

// attachable is how many more pod ENIs the instance takes.
func (in Input) attachable() int {
	return in.Geometry.ENIs - max(in.OtherENIs, 1+in.ReservedENIs) - len(in.PodENIs)
}

func (in Input) limit() string {
	g := in.Geometry
	switch attached := in.OtherENIs + len(in.PodENIs); {
	case g.podSlots() == 0 || in.attachable()+len(in.PodENIs) <= 0:
		return fmt.Sprintf("the instance leaves no room for pod ENIs: %d ENIs of %d addresses, %d taken, %d reserved", g.ENIs, g.AddressesPerENI, in.OtherENIs, in.ReservedENIs)
	case in.kept() > 0 && in.slotsLeft() == in.kept():
		return fmt.Sprintf("%d of %d ENIs attached, and their last free slot is kept for a /28, which the pod subnet does not give now", attached, g.ENIs)
	case in.attachable() <= 0:
		return fmt.Sprintf("%d of %d ENIs attached, none takes more", attached, g.ENIs)
	default:
		return fmt.Sprintf("%d of %d ENIs attached, and the subnets give no more now", attached, g.ENIs)
	}
}

func (in Input) room(e AttachedENI) int { return in.Geometry.podSlots() - len(e.Blocks) }

// bestENI is the attached ENI with the smallest room that takes all units, or the one with the most room; among equals the
// one with the lowest device index.
func (in Input) bestENI(unit Unit, units int) (best AttachedENI, bestRoom int, ok bool) {
	for _, eni := range in.PodENIs {
		room := in.room(eni)
		if eni.Unit != unit || room <= 0 {
			continue
		}
		if !ok || better(room, bestRoom, units) || (room == bestRoom && eni.DeviceIndex < best.DeviceIndex) {
			best, bestRoom, ok = eni, room, true
		}
	}
	return best, bestRoom, ok
}

// better tells whether room a suits a wish for units strictly better than room b.
func better(a, b, units int) bool {
	aFits, bFits := a >= units, b >= units
	switch {
	case aFits && bFits:
		return a < b
	case aFits != bFits:
		return aFits
	default:
		return a > b
	}
}
