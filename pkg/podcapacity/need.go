// SPDX-License-Identifier: Apache-2.0

package podcapacity

// Need is what a node takes from its pod subnet, or what it holds there.
type Need struct {
	// Prefixes counts /28 blocks.
	Prefixes int
	// Addresses counts single addresses for pods.
	Addresses int
	// ENIs counts pod ENIs, each of which takes one address for itself.
	ENIs int
}

// Plus adds two needs.
func (n Need) Plus(other Need) Need {
	return Need{n.Prefixes + other.Prefixes, n.Addresses + other.Addresses, n.ENIs + other.ENIs}
}

// Beyond is what of the need is not yet held.
func (n Need) Beyond(held Need) Need {
	return Need{max(n.Prefixes-held.Prefixes, 0), max(n.Addresses-held.Addresses, 0), max(n.ENIs-held.ENIs, 0)}
}

// NodeNeed says what a node's need depends on.
type NodeNeed struct {
	MaxPods int
	// PodENIs that the node can attach, and the addresses of each, its own included.
	PodENIs, IPsPerENI int
	// Prefixes: a /28 in each slot.
	Prefixes bool
	// Static: all comes with the launch, and nothing after it.
	Static bool
	// WholeENIs: single addresses come an ENI at a time, as aws-node takes them.
	WholeENIs bool
}

// Most returns what the node holds at the most in its life. A node that allocates dynamically keeps warm addresses within
// its max-pods, not within its max-pods less the two pods on the host network.
func (n NodeNeed) Most() Need {
	// The numbers are labels, which others may write: none is so large that products overflow.
	n.MaxPods, n.PodENIs, n.IPsPerENI = min(n.MaxPods, beyond), min(n.PodENIs, beyond), min(n.IPsPerENI, beyond)
	slots := max(n.IPsPerENI, 1) - 1
	if n.PodENIs <= 0 || slots == 0 {
		return Need{}
	}
	addresses := max(n.MaxPods, 0)
	if n.Static {
		addresses = max(addresses-HostNetworkPods, 0)
	}
	if n.Prefixes {
		prefixes := min(ceil(addresses, AddressesPerPrefix), n.PodENIs*slots)
		return Need{Prefixes: prefixes, ENIs: ceil(prefixes, slots)}
	}
	addresses = min(addresses, n.PodENIs*slots)
	enis := ceil(addresses, slots)
	if n.WholeENIs {
		addresses = enis * slots
	}
	return Need{Addresses: addresses, ENIs: enis}
}

// beyond what any node has of anything.
const beyond = 1 << 20

func ceil(n, unit int) int { return (n + unit - 1) / unit }
