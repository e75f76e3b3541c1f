// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"cmp"
	"net/netip"
	"slices"
)

// surplus is what can be given back: whole ENIs without a used address, then free blocks of others. After it the targets
// are still met, so the next decision gets nothing back.
func (in Input) surplus() []Return {
	left := in.stock()
	var returns []Return
	for _, eni := range in.emptiestFirst() {
		if eni.used() == 0 {
			if after, ok := in.without(left, eni.Blocks, true); ok {
				left = after
				returns = append(returns, Return{ENI: eni.ID, Whole: true, Prefixes: prefixes(eni.Blocks)})
				continue
			}
		}
		if in.wholeENIs() && in.onlySingles(eni) {
			continue
		}
		var back []Block
		for _, b := range in.dispensableFirst(eni.Blocks) {
			if after, ok := in.without(left, []Block{b}, false); ok {
				left = after
				back = append(back, b)
			}
		}
		if len(back) > 0 {
			returns = append(returns, Return{ENI: eni.ID, Prefixes: prefixes(back)})
		}
	}
	return returns
}

// without is the stock less some blocks, and whether the targets allow it.
func (in Input) without(s stock, blocks []Block, wholeENI bool) (stock, bool) {
	whole := s.whole
	for _, b := range blocks {
		if b.used() > 0 {
			return s, false
		}
		if !b.single() {
			whole--
		} else if in.wholeENIs() && !wholeENI {
			return s, false
		}
		s.available -= b.size()
		s.total -= b.size()
	}
	if in.Prefixes && !in.Targets.byAddress() && whole < s.whole && whole < in.Targets.Prefix {
		return s, false
	}
	s.whole = whole
	return s, len(blocks) == 0 || (s.available >= in.warm() && s.total >= in.Targets.MinimumIP)
}

// emptiestFirst is the order in which ENIs are emptied: those of which the least is used, then what is on its way already,
// then the last that was attached.
func (in Input) emptiestFirst() []AttachedENI {
	enis := slices.Clone(in.PodENIs)
	slices.SortStableFunc(enis, func(a, b AttachedENI) int {
		return cmp.Or(cmp.Compare(a.used(), b.used()), -cmp.Compare(returning(a.Blocks), returning(b.Blocks)), -cmp.Compare(a.DeviceIndex, b.DeviceIndex))
	})
	return enis
}

func returning(blocks []Block) (n int) {
	for _, b := range blocks {
		if b.Returning {
			n++
		}
	}
	return n
}

// dispensableFirst: where prefixes are wanted, single addresses only hold their slots.
func (in Input) dispensableFirst(blocks []Block) []Block {
	rank := func(b Block) int {
		switch {
		case b.Returning:
			return 0
		case b.single() == in.Prefixes:
			return 1
		default:
			return 2
		}
	}
	sorted := slices.Clone(blocks)
	slices.SortStableFunc(sorted, func(a, b Block) int { return rank(a) - rank(b) })
	return sorted
}

func (in Input) onlySingles(e AttachedENI) bool {
	return !slices.ContainsFunc(e.Blocks, func(b Block) bool { return !b.single() })
}

func prefixes(blocks []Block) []netip.Prefix {
	var all []netip.Prefix
	for _, b := range blocks {
		all = append(all, b.Prefix)
	}
	return all
}
