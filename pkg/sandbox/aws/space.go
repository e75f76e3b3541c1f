// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
)

const (
	prefixBits = 28
	prefixSize = 1 << (32 - prefixBits)
)

// space is the addresses of a subnet, /28 block by /28 block. It knows which are taken, not by whom.
type space struct {
	cidr         netip.Prefix
	blocks       []uint16 // a bit for each taken address; allTaken where the block is a prefix or full
	reservations []cidrReservation
}

// cidrReservation keeps a part of a subnet for prefixes, or for addresses that callers name (explicit).
type cidrReservation struct {
	id, description string
	cidr            netip.Prefix
	explicit        bool
	tags            map[string]string
}

const allTaken = uint16(0xffff)

// newSpace returns the space of a subnet of /16 to /28. AWS keeps the first four addresses and the last.
func newSpace(cidr netip.Prefix) *space {
	n := 1 << (prefixBits - cidr.Bits())
	s := &space{cidr: cidr.Masked(), blocks: make([]uint16, n)}
	s.blocks[0] |= 0x000f
	s.blocks[n-1] |= 0x8000
	return s
}

// reserved tells whether AWS keeps the address.
func (s *space) reserved(addr netip.Addr) bool {
	i := s.offset(addr)
	return i < 4 || i == len(s.blocks)*prefixSize-1
}

func (s *space) offset(addr netip.Addr) int {
	return int(toUint(addr) - toUint(s.cidr.Addr()))
}

func (s *space) at(offset int) netip.Addr {
	return fromUint(toUint(s.cidr.Addr()) + uint32(offset))
}

func (s *space) block(i int) netip.Prefix { return netip.PrefixFrom(s.at(i*prefixSize), prefixBits) }

// free returns the number of free addresses, as DescribeSubnets counts them.
func (s *space) free() int {
	n := 0
	for _, taken := range s.blocks {
		n += prefixSize - bits.OnesCount16(taken)
	}
	return n
}

// freeBlocks returns the blocks that a prefix can be taken from automatically.
func (s *space) freeBlocks() []netip.Prefix {
	var blocks []netip.Prefix
	for i := range s.blocks {
		if s.blocks[i] == 0 && !s.explicitly(s.block(i)) {
			blocks = append(blocks, s.block(i))
		}
	}
	return blocks
}

func (s *space) explicitly(block netip.Prefix) bool {
	r := s.reservation(block)
	return r != nil && (r.explicit || r.cidr.Bits() > prefixBits)
}

// reservation returns the CIDR reservation that a block or an address lies in.
func (s *space) reservation(p netip.Prefix) *cidrReservation {
	for i := range s.reservations {
		if s.reservations[i].cidr.Overlaps(p) {
			return &s.reservations[i]
		}
	}
	return nil
}

func (s *space) taken(addr netip.Addr) bool {
	i := s.offset(addr)
	return s.blocks[i/prefixSize]&(1<<(i%prefixSize)) != 0
}

func (s *space) take(addr netip.Addr) {
	i := s.offset(addr)
	s.blocks[i/prefixSize] |= 1 << (i % prefixSize)
}

func (s *space) release(addr netip.Addr) {
	i := s.offset(addr)
	s.blocks[i/prefixSize] &^= 1 << (i % prefixSize)
}

func (s *space) takePrefix(p netip.Prefix) {
	s.blocks[s.offset(p.Addr())/prefixSize] = allTaken
}

func (s *space) releasePrefix(p netip.Prefix) {
	s.blocks[s.offset(p.Addr())/prefixSize] = 0
}

// pick takes a free address anywhere in the subnet but in a CIDR reservation. EC2 does not pack addresses: one
// of them can spoil a /28 (amazon-vpc-cni-k8s#2313).
func (s *space) pick(r *rand.Rand) (netip.Addr, bool) {
	total := len(s.blocks) * prefixSize
	start := r.IntN(total)
	for i := range total {
		addr := s.at((start + i) % total)
		if !s.taken(addr) && s.reservation(netip.PrefixFrom(addr, 32)) == nil {
			s.take(addr)
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// pickPrefix takes a free aligned /28: from a reservation of type prefix while one has any, then from what is not reserved
// (amazon-vpc-cni-k8s#2749).
func (s *space) pickPrefix(r *rand.Rand) (netip.Prefix, bool) {
	for _, inReservation := range []bool{true, false} {
		start := r.IntN(len(s.blocks))
		for i := range s.blocks {
			block := s.block((start + i) % len(s.blocks))
			if s.blocks[(start+i)%len(s.blocks)] != 0 || s.explicitly(block) {
				continue
			}
			if (s.reservation(block) != nil) == inReservation {
				s.takePrefix(block)
				return block, true
			}
		}
	}
	return netip.Prefix{}, false
}

// want is what an interface asks of its subnet. Named addresses and prefixes come before counted ones.
type want struct {
	addresses   []netip.Addr
	count       int
	prefixes    []netip.Prefix
	prefixCount int
}

// given is what it gets.
type given struct {
	addresses []netip.Addr
	prefixes  []netip.Prefix
}

// assign takes all that is wanted, or nothing.
func (s *space) assign(w want, r *rand.Rand) (given, error) {
	before := slices.Clone(s.blocks)
	g, err := s.assignSome(w, r)
	if err != nil {
		s.blocks = before
		return given{}, err
	}
	return g, nil
}

func (s *space) assignSome(w want, r *rand.Rand) (given, error) {
	var g given
	for _, addr := range w.addresses {
		if err := s.checkNamed(addr); err != nil {
			return g, err
		}
		s.take(addr)
		g.addresses = append(g.addresses, addr)
	}
	for _, p := range w.prefixes {
		if err := s.checkNamedPrefix(p); err != nil {
			return g, err
		}
		s.takePrefix(p)
		g.prefixes = append(g.prefixes, p)
	}
	for range w.count {
		addr, ok := s.pick(r)
		if !ok {
			return g, errSubnetAddresses
		}
		g.addresses = append(g.addresses, addr)
	}
	if s.free() < w.prefixCount*prefixSize {
		return g, errSubnetFull
	}
	for range w.prefixCount {
		p, ok := s.pickPrefix(r)
		if !ok {
			return g, errSubnetFragmented
		}
		g.prefixes = append(g.prefixes, p)
	}
	return g, nil
}

func (s *space) checkNamed(addr netip.Addr) error {
	switch {
	case !s.cidr.Contains(addr):
		return clientError("InvalidParameterValue", "Address does not fall within the subnet's address range")
	case s.reserved(addr):
		return clientError("InvalidParameterValue", "Address %s is in subnet's reserved address range", addr)
	case s.taken(addr):
		return clientError("InvalidIPAddress.InUse", "Address %s is in use.", addr)
	}
	return nil
}

func (s *space) checkNamedPrefix(p netip.Prefix) error {
	switch {
	case p.Bits() != prefixBits || p.Masked() != p:
		return clientError("InvalidParameterValue", "Prefix %s is not an aligned /28", p)
	case !s.cidr.Contains(p.Addr()):
		return clientError("InvalidParameterValue", "Prefix %s does not fall within the subnet's address range", p)
	}
	i := s.offset(p.Addr()) / prefixSize
	if i == 0 || i == len(s.blocks)-1 {
		return clientError("InvalidParameterValue", "Prefix %s is in subnet's reserved address range", p)
	}
	if s.blocks[i] != 0 {
		return clientError("InvalidIPAddress.InUse", "Prefix %s overlaps addresses in use.", p)
	}
	return nil
}

func (s *space) giveBack(g given) {
	for _, addr := range g.addresses {
		s.release(addr)
	}
	for _, p := range g.prefixes {
		s.releasePrefix(p)
	}
}

func toUint(addr netip.Addr) uint32 {
	b := addr.As4()
	return binary.BigEndian.Uint32(b[:])
}

func fromUint(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
