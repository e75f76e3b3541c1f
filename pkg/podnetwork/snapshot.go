// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"net/netip"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// ENI is an interface in a pod subnet.
type ENI struct {
	// Instance that it is attached to, or that was to get it; "" where there is none.
	Instance string
	// Primary interfaces are no pod ENIs, though they may lie in a pod subnet.
	Primary bool
	// Addresses, its own first, and delegated prefixes.
	Addresses, Prefixes []netip.Prefix
}

// Snapshot is a pod subnet as EC2 showed it. It is never changed after it was made.
type Snapshot struct {
	Subnet   string
	CIDR     netip.Prefix
	Capacity Capacity
	Blocks   BlockMap
	// Held by instance id: what its pod ENIs have here.
	Held map[string]podcapacity.Need
	// Read is when the reading began: what happened since may be missing.
	Read time.Time
}

// Reservations are the CIDR reservations of a subnet.
type Reservations struct {
	Prefix, Explicit []netip.Prefix
}

// NewSnapshot counts what the ENIs leave.
func NewSnapshot(subnet string, cidr netip.Prefix, enis []ENI, reservations Reservations, read time.Time) *Snapshot {
	usage := Usage{CIDR: cidr, PrefixReservations: reservations.Prefix, ExplicitReservations: reservations.Explicit}
	size := 0
	for _, eni := range enis {
		size += len(eni.Addresses) + len(eni.Prefixes)
	}
	usage.Taken = make([]netip.Prefix, 0, size)
	held := make(map[string]podcapacity.Need, len(enis))
	for _, eni := range enis {
		usage.Taken = append(append(usage.Taken, eni.Addresses...), eni.Prefixes...)
		if eni.Instance != "" && !eni.Primary {
			held[eni.Instance] = held[eni.Instance].Plus(podcapacity.Need{
				Prefixes: len(eni.Prefixes), Addresses: max(len(eni.Addresses)-1, 0), ENIs: 1,
			})
		}
	}
	capacity, blocks := count(usage)
	return &Snapshot{Subnet: subnet, CIDR: cidr, Capacity: capacity, Blocks: blocks, Held: held, Read: read}
}
