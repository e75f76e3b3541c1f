// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
)

// SubnetFault takes addresses of a subnet for interfaces of somebody else, once, and gives them back when it ends. Mode "fill"
// leaves Leave addresses free, as whole /28s as far as they go; "fragment" leaves so many, scattered so that no /28 is free.
type SubnetFault struct {
	ID    string `json:"id"`
	Mode  string `json:"mode"`
	Leave int    `json:"leave"`
}

// Modes of a SubnetFault.
const (
	FillSubnet     = "fill"
	FragmentSubnet = "fragment"
)

// foreignSlots is how many address slots an interface of somebody else uses: as many as the largest instance types have.
const foreignSlots = 50

func (*SubnetFault) kind() string  { return "subnet" }
func (*SubnetFault) repeats() bool { return false }
func (*SubnetFault) lasts() bool   { return true }

func (s *SubnetFault) describe() string {
	if s.Mode == FragmentSubnet {
		return fmt.Sprintf("%s has %d free addresses, and no free /28", s.ID, s.Leave)
	}
	return fmt.Sprintf("%s has %d free addresses", s.ID, s.Leave)
}

func (s *SubnetFault) begin(c *Cloud, f *activeFault) error {
	sub := c.subnets.get(s.ID)
	if sub == nil {
		return faultError("subnet: there is no %q; there are: %s", s.ID, c.subnets.order)
	}
	if s.Mode != FillSubnet && s.Mode != FragmentSubnet {
		return faultError("subnet: mode %q: use %s or %s", s.Mode, FillSubnet, FragmentSubnet)
	}
	free := sub.space.free()
	if s.Leave < 0 || s.Leave > free {
		return faultError("subnet: leave is %d: %s has %d free addresses now", s.Leave, s.ID, free)
	}
	blocks := sub.space.freeByBlock()
	if s.Mode == FragmentSubnet {
		whole := 0
		for _, block := range blocks {
			whole += len(block) / prefixSize
		}
		if most := free - whole; s.Leave > most {
			return faultError("subnet: leave is %d: with that many free addresses a /28 is free in %s; at most %d can be scattered", s.Leave, s.ID, most)
		}
	}
	// Blocks, and the addresses in each, in an order of the fault's seed.
	f.random.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	for _, block := range blocks {
		f.random.Shuffle(len(block), func(i, j int) { block[i], block[j] = block[j], block[i] })
	}
	taken := fillUp(blocks, s.Leave)
	if s.Mode == FragmentSubnet {
		taken = fragment(blocks, s.Leave)
	}
	return c.occupy(sub, taken, f)
}

// freeByBlock returns the free addresses of each /28 that has any.
func (s *space) freeByBlock() [][]netip.Addr {
	var blocks [][]netip.Addr
	for i, taken := range s.blocks {
		block := make([]netip.Addr, 0, prefixSize-bits.OnesCount16(taken))
		for k := range prefixSize {
			if taken&(1<<k) == 0 {
				block = append(block, s.at(i*prefixSize+k))
			}
		}
		if len(block) > 0 {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// fillUp returns what to take of each block so that leave addresses stay, in whole blocks first.
func fillUp(blocks [][]netip.Addr, leave int) [][]netip.Addr {
	whole := func(block []netip.Addr) bool { return len(block) == prefixSize }
	slices.SortStableFunc(blocks, func(a, b []netip.Addr) int { return len(b) - len(a) })
	var taken, later [][]netip.Addr
	for _, block := range blocks {
		if whole(block) && leave >= prefixSize {
			leave -= prefixSize
			continue
		}
		later = append(later, block)
	}
	// What is left to leave is less than a block, or no block is whole any more.
	for _, block := range slices.Backward(later) {
		keep := min(leave, len(block))
		leave -= keep
		taken = append(taken, block[keep:])
	}
	return taken
}

// fragment returns what to take of each block so that leave addresses stay, a few in each block and never a whole one.
func fragment(blocks [][]netip.Addr, leave int) [][]netip.Addr {
	kept := make([]int, len(blocks))
	for round := 1; leave > 0; round++ {
		for i, block := range blocks {
			if leave > 0 && min(len(block), prefixSize-1) >= round {
				kept[i]++
				leave--
			}
		}
	}
	var taken [][]netip.Addr
	for i, block := range blocks {
		taken = append(taken, block[kept[i]:])
	}
	return taken
}

// occupy makes interfaces of somebody else that hold the addresses: whole blocks as prefixes, the others one by one.
func (c *Cloud) occupy(sub *subnet, taken [][]netip.Addr, f *activeFault) error {
	var prefixes []netip.Prefix
	var addresses []netip.Addr
	for _, block := range taken {
		if len(block) == prefixSize {
			prefixes = append(prefixes, netip.PrefixFrom(block[0], prefixBits).Masked())
		} else {
			addresses = append(addresses, block...)
		}
	}
	for len(prefixes)+len(addresses) > 0 {
		if len(addresses) == 0 { // an interface needs a primary address
			first := prefixes[0].Addr()
			for range prefixSize {
				addresses = append(addresses, first)
				first = first.Next()
			}
			prefixes = prefixes[1:]
		}
		spec := interfaceSpec{subnet: sub, description: "Somebody else's (" + f.ID + ")", groups: []*securityGroup{sub.vpc.defaultGroup}, primary: addresses[0]}
		addresses = addresses[1:]
		n := min(len(prefixes), foreignSlots-1)
		spec.want.prefixes, prefixes = prefixes[:n], prefixes[n:]
		n = min(len(addresses), foreignSlots-1-n)
		spec.want.addresses, addresses = addresses[:n:n], addresses[n:]
		made, err := c.allocate(spec)
		if err != nil {
			f.end(c, f)
			return faultError("subnet: %v", err)
		}
		c.attachToService(made, "amazon-elb")
		f.foreign = append(f.foreign, made)
	}
	return nil
}

func (*SubnetFault) end(c *Cloud, f *activeFault) {
	for _, n := range f.foreign {
		c.free(n)
	}
	f.foreign = nil
}
