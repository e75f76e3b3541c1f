// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"fmt"
	"math"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// Room is what a pod subnet has for further nodes: what is free, less what is set aside for nodes that do not hold it yet.
type Room struct {
	// Known is false until the subnet was read for the first time.
	Known bool
	// Free counts /28 blocks and addresses that nothing takes; Aside counts those of them that are set aside.
	Free, Aside Charge
	// Apart: prefixes come from a CIDR reservation, and single addresses never do.
	Apart bool
	// Promised: nodes have been promised prefixes that they do not hold yet.
	Promised bool
	// Refused is EC2's error code where it has lately refused what seemed to be there.
	Refused string
}

// Charge is what a need costs a subnet at the worst.
type Charge struct {
	Blocks, Addresses int
}

// chargeOf a need. Where no CIDR reservation keeps prefixes apart, EC2 may put a single address into any free /28, which then
// is no longer one (amazon-vpc-cni-k8s #2313, #2749). So each address, an ENI's own too, is charged with a block until it
// is seen where it lies.
func chargeOf(need podcapacity.Need, apart bool) Charge {
	singles := need.Addresses + need.ENIs
	if apart {
		return Charge{Blocks: need.Prefixes, Addresses: singles}
	}
	return Charge{Blocks: need.Prefixes + singles, Addresses: singles + need.Prefixes*blockSize}
}

// Charge is what a need costs here.
func (r Room) Charge(need podcapacity.Need) Charge { return chargeOf(need, r.Apart) }

// left for new nodes; less than nothing where a subnet was overcommitted by others.
func (r Room) left() Charge {
	return Charge{Blocks: r.Free.Blocks - r.Aside.Blocks, Addresses: r.Free.Addresses - r.Aside.Addresses}
}

// refusedPrefixes is EC2's code for a subnet without a free /28. It says nothing of single addresses.
const refusedPrefixes = "InsufficientCidrBlocks"

func (r Room) refuses(need podcapacity.Need) bool {
	return r.Refused != "" && (r.Refused != refusedPrefixes || need.Prefixes > 0)
}

// Single is how many addresses are free and not set aside, whether they lie in free blocks or not.
func (r Room) Single() int { return max(r.left().Addresses, 0) }

// Nodes is how many nodes of such a need find room, were they to come now.
func (r Room) Nodes(need podcapacity.Need) int {
	if r.refuses(need) {
		return 0
	}
	charge, left := chargeOf(need, r.Apart), r.left()
	nodes := math.MaxInt
	if charge.Addresses > 0 {
		nodes = max(left.Addresses, 0) / charge.Addresses
	}
	// A node of single addresses needs no block, but it may spoil those that others were promised.
	if charge.Blocks > 0 && (need.Prefixes > 0 || r.Promised) {
		nodes = min(nodes, max(left.Blocks, 0)/charge.Blocks)
	}
	return nodes
}

// Fits tells whether one node of such a need finds room. A subnet that was never read does not stand in the way: Ledger
// asks for its first reading before it gives anything away.
func (r Room) Fits(need podcapacity.Need) bool { return !r.Known || r.Nodes(need) > 0 }

// Explain why a need does not fit.
func (r Room) Explain(need podcapacity.Need) string {
	if !r.Known {
		return "EC2 does not show it: does it exist?"
	}
	if r.refuses(need) {
		return fmt.Sprintf("EC2 refused addresses of it with %s lately", r.Refused)
	}
	charge, left := chargeOf(need, r.Apart), r.left()
	if short := max(left.Blocks, 0) < charge.Blocks && (need.Prefixes > 0 || r.Promised); !short {
		return fmt.Sprintf("%d addresses free, %d of them set aside for nodes, %d needed", r.Free.Addresses, r.Aside.Addresses, charge.Addresses)
	}
	text := fmt.Sprintf("%d /28 blocks free, %d of them set aside for nodes, %d needed", r.Free.Blocks, r.Aside.Blocks, need.Prefixes)
	if spoilt := charge.Blocks - need.Prefixes; spoilt > 0 {
		text += fmt.Sprintf(" and %d that single addresses may spoil: a subnet CIDR reservation of type prefix would keep them apart", spoilt)
	}
	if single := r.Single(); single > 0 {
		text += fmt.Sprintf("; %d single addresses free", single)
	}
	return text
}
