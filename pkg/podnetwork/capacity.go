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
	capacity, _ := count(usage)
	return capacity
}

// BlocksOf an empty subnet: its aligned /28 blocks, but for the two with addresses that AWS keeps.
func BlocksOf(subnet netip.Prefix) int {
	if subnet.Bits() >= BlockBits-1 {
		return 0
	}
	return 1<<(BlockBits-subnet.Bits()) - 2
}

func count(usage Usage) (Capacity, BlockMap) {
	cidr := usage.CIDR.Masked()
	size := 1 << (32 - cidr.Bits())
	space := addressSpace{first: number(cidr.Addr()), state: make([]addressState, size)}
	for i := range keptFirst {
		space.state[i] |= taken
	}
	space.state[size-keptLast] |= taken
	for _, p := range usage.Taken {
		state := taken
		if p.Bits() == BlockBits {
			state |= delegated
		}
		space.mark(p, state)
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
	delegated
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
	size := int64(1) << (32 - p.Bits())
	from := int64(number(p.Addr()))&^(size-1) - int64(s.first)
	to := min(from+size, int64(len(s.state)))
	for i := max(from, 0); i < to; i++ {
		s.state[i] |= state
	}
}

func (s addressSpace) count(reserved bool) (Capacity, BlockMap) {
	var c Capacity
	blocks := make(BlockMap, 0, len(s.state)/blockSize)
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
		block := stateOf(union, reserved && inReservation < blockSize)
		if block == BlockFree {
			c.FreePrefixes++
		}
		blocks = append(blocks, block)
	}
	if free > 0 {
		c.Fragmentation = 100 * (free - c.FreePrefixes*blockSize) / free
	}
	return c, blocks
}

// stateOf a block, from the union of its addresses' states.
func stateOf(union addressState, outside bool) Block {
	switch {
	case union&delegated != 0:
		return BlockDelegated
	case union&taken != 0:
		return BlockTouched
	case union&explicit != 0 || outside:
		return BlockWithheld
	default:
		return BlockFree
	}
}

func number(a netip.Addr) uint32 {
	bytes := a.As4()
	return binary.BigEndian.Uint32(bytes[:])
}
