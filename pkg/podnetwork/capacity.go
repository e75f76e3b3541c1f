// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"encoding/binary"
	"net/netip"
)

const (
	// BlockBits is the length of the prefix that EC2 delegates to an address slot of an ENI.
	BlockBits = 28
	blockSize = 1 << (32 - BlockBits)
	// AWS keeps the first four addresses of a subnet and the last.
	keptFirst, keptLast = 4, 1
)

// Usage is what lies in a subnet.
type Usage struct {
	CIDR netip.Prefix
	// Taken addresses (/32) and delegated prefixes (/28).
	Taken []netip.Prefix
	// PrefixReservations are subnet CIDR reservations of type prefix: prefixes come from them where there is one, single
	// addresses never do.
	PrefixReservations []netip.Prefix
	// ExplicitReservations give addresses only to those who name them.
	ExplicitReservations []netip.Prefix
}

// Capacity of a subnet for further pods.
type Capacity struct {
	// FreePrefixes counts aligned /28 blocks that nothing touches.
	FreePrefixes int
	// FreeAddresses counts addresses that a request for single addresses can get.
	FreeAddresses int
	// Reserved counts addresses in reservations of type prefix.
	Reserved int
	// Fragmentation is the share of free addresses that lie in no free block, in percent, among those that blocks are taken
	// from: a reservation's where there is one.
	Fragmentation int
}

// CapacityOf counts exactly. EC2's AvailableIpAddressCount says nothing about blocks: a subnet with thousands of free
// addresses may not have one /28 left.
func CapacityOf(usage Usage) Capacity {
	cidr := usage.CIDR.Masked()
	size := 1 << (32 - cidr.Bits())
	space := addressSpace{first: number(cidr.Addr()), state: make([]addressState, size)}
	for i := range keptFirst {
		space.state[i] |= taken
	}
	space.state[size-keptLast] |= taken
	for _, p := range usage.Taken {
		space.mark(p, taken)
	}
	for _, p := range usage.PrefixReservations {
		space.mark(p, forPrefixes)
	}
	for _, p := range usage.ExplicitReservations {
		space.mark(p, explicit)
	}
	return space.count(len(usage.PrefixReservations) > 0)
}

type addressState uint8

const (
	taken addressState = 1 << iota
	forPrefixes
	explicit
)

// addressSpace holds the state of each address of a subnet: 64 KiB for a /16, the largest that EC2 has.
type addressSpace struct {
	first uint32
	state []addressState
}

// mark ignores what lies outside of the subnet.
func (s addressSpace) mark(p netip.Prefix, state addressState) {
	p = p.Masked()
	from := int64(number(p.Addr())) - int64(s.first)
	to := from + int64(1)<<(32-p.Bits())
	for i := max(from, 0); i < min(to, int64(len(s.state))); i++ {
		s.state[i] |= state
	}
}

func (s addressSpace) count(reserved bool) Capacity {
	var c Capacity
	free := 0
	for start := 0; start < len(s.state); start += blockSize {
		var union addressState
		inReservation := 0
		for _, state := range s.state[start : start+blockSize] {
			union |= state
			if state&forPrefixes != 0 {
				inReservation++
			}
			if state&(taken|explicit) == 0 && (!reserved || state&forPrefixes != 0) {
				free++
			}
			if state == 0 {
				c.FreeAddresses++
			}
		}
		c.Reserved += inReservation
		if union&(taken|explicit) == 0 && (!reserved || inReservation == blockSize) {
			c.FreePrefixes++
		}
	}
	if free > 0 {
		c.Fragmentation = 100 * (free - c.FreePrefixes*blockSize) / free
	}
	return c
}

func number(a netip.Addr) uint32 {
	bytes := a.As4()
	return binary.BigEndian.Uint32(bytes[:])
}
