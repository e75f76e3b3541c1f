// SPDX-License-Identifier: Apache-2.0

package pool

// Targets say how much to keep ready beyond what pods use. Their meanings and formulas are those of the Amazon VPC CNI's
// WARM_* variables (isDatastorePoolTooLow, datastoreTargetState and getPrefixesNeeded of v1.23.1), with these differences:
//
//   - pods that wait for an address count as if they had one, so nothing waits for a timer, and MINIMUM_IP_TARGET alone does
//     not stop growth (amazon-vpc-cni-k8s #3685);
//   - an address that cools down is not available (#2896), and a prefix with one is not free;
//   - nothing is given back that would be missed at once (PR #1515: WARM_ENI_TARGET=0 made and deleted ENIs in a loop);
//   - what is warm stays within max-pods, and not only begins below it.
type Targets struct {
	// Prefix is the number of wholly free /28s (WARM_PREFIX_TARGET).
	Prefix int
	// IP is the number of free addresses (WARM_IP_TARGET); it or MinimumIP being set overrules Prefix and ENI.
	IP int
	// MinimumIP is a floor of all addresses, used or free (MINIMUM_IP_TARGET).
	MinimumIP int
	// ENI is the number of whole ENIs' worth of free addresses; it counts only where prefixes are not wanted
	// (WARM_ENI_TARGET).
	ENI int
}

func (t Targets) byAddress() bool { return t.IP > 0 || t.MinimumIP > 0 }

// stock is what the pool has once the pods that wait are served.
type stock struct {
	total, available int
	// whole /28s without a lease or a cooling address
	whole int
	// unserved pods, for which there is no address
	unserved int
}

func (in Input) stock() stock {
	var s stock
	free, partly := 0, 0
	for _, eni := range in.PodENIs {
		for _, b := range eni.Blocks {
			s.total += b.size()
			left := max(b.size()-b.used(), 0)
			free += left
			switch {
			case b.used() > 0 || b.single():
				partly += left
			default:
				s.whole++
			}
		}
	}
	s.unserved, s.available = max(in.Waiting-free, 0), max(free-in.Waiting, 0)
	s.whole = max(s.whole-Prefix.unitsFor(max(in.Waiting-partly, 0)), 0) // pods take from the fullest first
	return s
}

// wholeENIs: single addresses without address targets come and go with their ENI.
func (in Input) wholeENIs() bool { return !in.Prefixes && !in.Targets.byAddress() }

// warm is the number of available addresses below which more are wanted; aws-node never lets the last one go.
func (in Input) warm() int {
	switch {
	case in.Targets.byAddress():
		return in.Targets.IP
	case in.Prefixes:
		return max(in.Targets.Prefix*int(Prefix), 1)
	default:
		return max(in.Targets.ENI*in.Geometry.podSlots(), 1)
	}
}

// low tells whether the targets are missed.
func (in Input) low(s stock) bool {
	if in.MaxPods > 0 && s.total >= in.MaxPods {
		return false
	}
	return s.available < in.warm() || s.total < in.Targets.MinimumIP
}

func (in Input) enough() bool {
	s := in.stock()
	return s.unserved == 0 && !in.low(s)
}

// units that are missing: for the pods that wait, then for the targets.
func (in Input) units(unit Unit) int {
	s := in.stock()
	pods := unit.unitsFor(s.unserved)
	s.available += pods*int(unit) - s.unserved
	s.total += pods * int(unit)
	if !in.low(s) {
		return pods
	}
	warm := unit.unitsFor(max(in.warm()-s.available, in.Targets.MinimumIP-s.total, 1))
	if in.Prefixes && !in.Targets.byAddress() && unit == Prefix {
		warm = max(1, in.Targets.Prefix-s.whole)
	}
	return pods + in.withinMaxPodsOf(s.total, warm, 0, unit)
}

// withinMaxPods lowers a number of units to what max-pods leaves room for, but not below least.
func (in Input) withinMaxPods(units, least int, unit Unit) int {
	return in.withinMaxPodsOf(in.stock().total, units, least, unit)
}

func (in Input) withinMaxPodsOf(total, units, least int, unit Unit) int {
	if in.MaxPods == 0 {
		return units
	}
	return max(min(units, unit.unitsFor(max(in.MaxPods-total, 0))), least)
}

// Usage counts addresses: all, those that pods have, and those that rest.
func (in Input) Usage() (total, leased, cooling int) {
	for _, eni := range in.PodENIs {
		for _, b := range eni.Blocks {
			total += b.size()
			leased += b.Leased
			cooling += b.Cooling
		}
	}
	return total, leased, cooling
}
