// SPDX-License-Identifier: Apache-2.0

package pool

import "fmt"

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

// Geometry is what an instance type's pod addresses depend on.
type Geometry struct {
	// ENIs on the default network card, the primary one included.
	ENIs int
	// AddressesPerENI counts IPv4 address slots, the ENI's own address included.
	AddressesPerENI int
}

// podSlots are the slots of one pod ENI that can hold pod addresses.
func (g Geometry) podSlots() int { return max(g.AddressesPerENI-1, 0) }

// Targets say how much to keep ready beyond what pods use. Their meanings are
// those of the Amazon VPC CNI's WARM_* variables.
type Targets struct {
	// Prefix is the number of /28s' worth of free addresses (WARM_PREFIX_TARGET).
	Prefix int
	// IP is the number of free addresses (WARM_IP_TARGET); it or MinimumIP
	// being set overrules Prefix and ENI.
	IP int
	// MinimumIP is a floor of all addresses, used or free (MINIMUM_IP_TARGET).
	MinimumIP int
	// ENI is the number of whole ENIs' worth of free addresses; it counts only
	// where addresses are given singly (WARM_ENI_TARGET).
	ENI int
}

// warm is the number of free addresses to keep.
func (t Targets) warm(g Geometry, unit Unit) int {
	switch {
	case t.IP > 0 || t.MinimumIP > 0:
		return t.IP
	case unit == Prefix:
		return t.Prefix * int(Prefix)
	default:
		return t.ENI * g.podSlots()
	}
}

// AttachedENI is a pod ENI as far as the decision needs it.
type AttachedENI struct {
	ID          string
	DeviceIndex int
	// Used slots: prefixes and secondary addresses.
	Used int
	// Blocked ENIs are not asked for more: their subnet has just refused.
	Blocked bool
}

// Input is everything that Decide looks at.
type Input struct {
	Geometry Geometry
	Targets  Targets
	// Unit in which new addresses are asked for.
	Unit Unit
	// MaxPods of the node; more addresses than pods that fit are never kept
	// warm. Zero: not known.
	MaxPods int
	// PodENIs are the attached ENIs that hold pod addresses.
	PodENIs []AttachedENI
	// OtherENIs counts the attached interfaces that hold none: the primary
	// one and those that somebody else attached.
	OtherENIs int
	// CreateBlocked is set when no further ENI may be tried now: the subnet of
	// the ENIConfig has just refused.
	CreateBlocked bool
	// Capacity, Leased and Cooling count addresses: all, given to pods, resting.
	Capacity, Leased, Cooling int
	// Waiting counts pods that are bound to the node and have no address.
	Waiting int
}

// Action is the kind of step that a Plan consists of.
type Action string

const (
	// Satisfied says that nothing is missing.
	Satisfied Action = "Satisfied"
	// Assign more units to an attached ENI.
	Assign Action = "Assign"
	// Create and attach an ENI that brings its units along.
	Create Action = "Create"
	// Exhausted says that more is wanted, and the instance or the subnets allow none.
	Exhausted Action = "Exhausted"
)

// Plan is the one EC2 operation to do next.
type Plan struct {
	Action Action
	// ENI to assign to.
	ENI string
	// Count of Units to ask for.
	Count int
	Unit  Unit
	// Short is how many addresses are missing.
	Short int
	// Reason for a log line or an event.
	Reason string
}

// Short is the number of addresses that are missing: for the pods that wait
// and for the warm target, never more than the pods that can still come. An
// address that cools down serves nobody, so it counts as used; the cluster
// otherwise waits for it (amazon-vpc-cni-k8s #2896).
func (in Input) Short() int {
	warm := in.Targets.warm(in.Geometry, in.Unit)
	minimum := in.Targets.MinimumIP
	if in.MaxPods > 0 {
		warm = min(warm, max(in.MaxPods-in.Leased-in.Waiting, 0))
		minimum = min(minimum, in.MaxPods)
	}
	free := in.Capacity - in.Leased - in.Cooling
	return max(in.Waiting+warm-free, minimum-in.Capacity, 0)
}

// Decide chooses the next step. A slot of an attached ENI is taken before a
// new ENI, because it costs one call instead of three and no ENI of the
// account; the whole need is asked for at once.
func Decide(in Input) Plan {
	short := in.Short()
	plan := Plan{Unit: in.Unit, Short: short}
	if short == 0 {
		plan.Action = Satisfied
		return plan
	}
	units := (short + int(in.Unit) - 1) / int(in.Unit)

	if eni, room, ok := in.bestENI(units); ok {
		plan.Action, plan.ENI, plan.Count = Assign, eni.ID, min(units, room)
		plan.Reason = fmt.Sprintf("%d addresses short, ENI %s has %d free slots", short, eni.ID, room)
		return plan
	}

	attached := in.OtherENIs + len(in.PodENIs)
	switch {
	case in.Geometry.podSlots() == 0 || in.Geometry.ENIs <= in.OtherENIs:
		plan.Action = Exhausted
		plan.Reason = fmt.Sprintf("the instance type leaves no room for pod ENIs: %d ENIs of %d addresses, %d taken", in.Geometry.ENIs, in.Geometry.AddressesPerENI, in.OtherENIs)
	case attached >= in.Geometry.ENIs:
		plan.Action = Exhausted
		plan.Reason = fmt.Sprintf("%d of %d ENIs attached, none takes another %s", attached, in.Geometry.ENIs, in.Unit)
	case in.CreateBlocked:
		plan.Action = Exhausted
		plan.Reason = fmt.Sprintf("%d of %d ENIs attached, and no further one can be made now", attached, in.Geometry.ENIs)
	default:
		plan.Action, plan.Count = Create, min(units, in.Geometry.podSlots())
		plan.Reason = fmt.Sprintf("%d addresses short, %d of %d ENIs attached", short, attached, in.Geometry.ENIs)
	}
	return plan
}

// bestENI is the attached ENI with the smallest room that takes all units, or
// the one with the most room; among equals the one with the lowest device index.
func (in Input) bestENI(units int) (best AttachedENI, bestRoom int, ok bool) {
	for _, eni := range in.PodENIs {
		room := in.Geometry.podSlots() - eni.Used
		if eni.Blocked || room <= 0 {
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
