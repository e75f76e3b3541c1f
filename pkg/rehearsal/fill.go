// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

// fewest CIDRs that cover exactly the same addresses.
func fewest(prefixes []netip.Prefix) []netip.Prefix {
	all := slices.Clone(prefixes)
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range all {
		if n := len(out); n > 0 && provision.Contains(out[n-1], p) {
			continue
		}
		out = append(out, p)
		for len(out) > 1 { // two halves are their whole
			a, b := out[len(out)-2], out[len(out)-1]
			whole := netip.PrefixFrom(a.Addr(), max(a.Bits()-1, 0)).Masked()
			if a.Bits() != b.Bits() || whole.Addr() != a.Addr() || !whole.Contains(b.Addr()) {
				break
			}
			out = append(out[:len(out)-2], whole)
		}
	}
	return out
}

// units that an ENI can hold: whole /28s, and the single addresses of the rest. AWS keeps the first four addresses of a subnet and
// the last: a block with one of them cannot be delegated.
func units(subnet netip.Prefix, taken []netip.Prefix) (singles []netip.Addr, prefixes []netip.Prefix) {
	for _, p := range taken {
		if p.Bits() >= podnetwork.BlockBits {
			singles, prefixes = unitsOf(subnet, p, singles, prefixes)
			continue
		}
		for block := netip.PrefixFrom(p.Addr(), podnetwork.BlockBits); p.Contains(block.Addr()); {
			singles, prefixes = unitsOf(subnet, block, singles, prefixes)
			if block = netip.PrefixFrom(last(block).Next(), podnetwork.BlockBits); !block.IsValid() {
				break
			}
		}
	}
	return singles, prefixes
}

func unitsOf(subnet, p netip.Prefix, singles []netip.Addr, prefixes []netip.Prefix) ([]netip.Addr, []netip.Prefix) {
	if p.Bits() == podnetwork.BlockBits && !slices.ContainsFunc(kept(subnet), p.Contains) {
		return singles, append(prefixes, p)
	}
	return append(singles, lo.Without(addresses(p), kept(subnet)...)...), prefixes
}

// kept by AWS.
func kept(subnet netip.Prefix) []netip.Addr {
	a := subnet.Masked().Addr()
	return []netip.Addr{a, a.Next(), a.Next().Next(), a.Next().Next().Next(), last(subnet)}
}

// addresses of a small CIDR.
func addresses(p netip.Prefix) []netip.Addr {
	var all []netip.Addr
	for a := p.Masked().Addr(); p.Contains(a); a = a.Next() {
		all = append(all, a)
	}
	return all
}

// last address of a CIDR.
func last(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(a)
}

// slots of an ENI besides its own address, at the most.
const slots = 49

// filling is an ENI that takes what others have taken. It has prefixes or further addresses: EC2 does not give both at once.
type filling struct {
	first     netip.Addr
	addresses []netip.Addr
	prefixes  []netip.Prefix
}

// fill a subnet: ENIs that hold exactly these units.
func fill(singles []netip.Addr, prefixes []netip.Prefix) []filling {
	singles, prefixes = slices.Clone(singles), slices.Clone(prefixes)
	var all []filling
	for len(singles)+len(prefixes) > 0 {
		if len(singles) == 0 { // an ENI has an address of its own
			singles, prefixes = addresses(prefixes[0]), prefixes[1:]
		}
		f := filling{first: singles[0]}
		singles = singles[1:]
		if n := min(len(prefixes), slots); n > 0 {
			f.prefixes, prefixes = prefixes[:n], prefixes[n:]
		} else {
			n = min(len(singles), slots)
			f.addresses, singles = singles[:n], singles[n:]
		}
		all = append(all, f)
	}
	return all
}
