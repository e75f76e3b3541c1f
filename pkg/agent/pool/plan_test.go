// SPDX-License-Identifier: Apache-2.0

package pool_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

var m5large = pool.Geometry{ENIs: 3, AddressesPerENI: 10}

// prefixesUsed makes blocks of /28s with so many leases each.
func prefixesUsed(leased ...int) []pool.Block {
	var blocks []pool.Block
	for i, n := range leased {
		blocks = append(blocks, pool.Block{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(i), 0}), 28), Leased: n})
	}
	return blocks
}

// singlesUsed makes blocks of single addresses, the first of which are leased.
func singlesUsed(count, leased int) []pool.Block {
	var blocks []pool.Block
	for i := range count {
		block := pool.Block{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 65, 0, byte(i)}), 32)}
		if i < leased {
			block.Leased = 1
		}
		blocks = append(blocks, block)
	}
	return blocks
}

func cooling(blocks []pool.Block, i, n int) []pool.Block {
	blocks[i].Cooling = n
	return blocks
}

func enis(blocks ...[]pool.Block) []pool.AttachedENI {
	var all []pool.AttachedENI
	for i, b := range blocks {
		all = append(all, pool.AttachedENI{ID: string(rune('a' + i)), DeviceIndex: i + 1, Blocks: b})
	}
	return all
}

// plan is a Plan in short.
type plan struct {
	action  pool.Action
	eni     string
	count   int
	unit    pool.Unit
	returns string
}

func short(p pool.Plan) plan {
	s := plan{action: p.Action, eni: p.ENI, count: p.Count, unit: p.Unit}
	for _, r := range p.Returns {
		if s.returns != "" {
			s.returns += " "
		}
		s.returns += fmt.Sprintf("%s:%d", r.ENI, len(r.Prefixes))
		if r.Whole {
			s.returns += " whole"
		}
	}
	return s
}

func TestDecide(t *testing.T) {
	warm := pool.Targets{Prefix: 1, ENI: 1}
	fill := slices.Repeat([]int{16}, 9)
	for name, tc := range map[string]struct {
		in   pool.Input
		want plan
	}{
		"a fresh node creates its first ENI with the warm prefix": {
			pool.Input{Targets: warm}, plan{pool.Create, "", 1, pool.Prefix, ""},
		},
		"a fresh node with a burst bound to it asks for the whole need at once": {
			pool.Input{Targets: warm, Waiting: 60, MaxPods: 110}, plan{pool.Create, "", 5, pool.Prefix, ""},
		},
		"free addresses at the target satisfy": {
			pool.Input{Targets: warm, PodENIs: enis(prefixesUsed(0))}, plan{action: pool.Satisfied},
		},
		"the first pod makes the warm prefix incomplete and a slot of the ENI is used": {
			pool.Input{Targets: warm, PodENIs: enis(prefixesUsed(1))}, plan{pool.Assign, "a", 1, pool.Prefix, ""},
		},
		"free addresses in used prefixes are warm too": {
			pool.Input{Targets: warm, PodENIs: enis(prefixesUsed(8, 8))}, plan{action: pool.Satisfied},
		},
		"short of addresses, as many wholly free prefixes are asked for as the target says": {
			pool.Input{Targets: pool.Targets{Prefix: 3}, PodENIs: enis(prefixesUsed(8, 8, 8))}, plan{pool.Assign, "a", 3, pool.Prefix, ""},
		},
		"without a warm prefix one address stays free": {
			pool.Input{Targets: pool.Targets{}, PodENIs: enis(prefixesUsed(16))}, plan{pool.Assign, "a", 1, pool.Prefix, ""},
		},
		"without a warm prefix the last one is not given back only to be missed": {
			pool.Input{Targets: pool.Targets{}, PodENIs: enis(prefixesUsed(0))}, plan{action: pool.Satisfied},
		},
		"a cooling address is not available": {
			pool.Input{Targets: pool.Targets{IP: 2}, PodENIs: enis(cooling(prefixesUsed(13), 0, 2))}, plan{pool.Assign, "a", 1, pool.Prefix, ""},
		},
		"a full ENI makes way for the next": {
			pool.Input{Targets: warm, PodENIs: enis(prefixesUsed(append(fill[:8:8], 12)...))}, plan{pool.Create, "", 1, pool.Prefix, ""},
		},
		"a need beyond the room of the ENI takes the room first": {
			pool.Input{Targets: warm, Waiting: 64, PodENIs: enis(prefixesUsed(fill[:8]...))}, plan{pool.Assign, "a", 1, pool.Prefix, ""},
		},
		"the ENI that just fits is preferred to the emptier one": {
			pool.Input{Waiting: 20, PodENIs: enis(prefixesUsed(fill[:2]...), prefixesUsed(fill[:7]...))}, plan{pool.Assign, "b", 2, pool.Prefix, ""},
		},
		"all ENIs full is exhaustion": {
			pool.Input{Waiting: 1, PodENIs: enis(prefixesUsed(fill...), prefixesUsed(fill...))}, plan{action: pool.Exhausted},
		},
		"an ENI of somebody else takes an attachment": {
			pool.Input{Waiting: 1, OtherENIs: 2, PodENIs: enis(prefixesUsed(fill...))}, plan{action: pool.Exhausted},
		},
		"a reserved ENI is left to others": {
			pool.Input{Waiting: 1, ReservedENIs: 1, PodENIs: enis(prefixesUsed(fill...))}, plan{action: pool.Exhausted},
		},
		"a reserved ENI that somebody has attached counts once": {
			pool.Input{Geometry: pool.Geometry{ENIs: 4, AddressesPerENI: 10}, Waiting: 1, ReservedENIs: 1, OtherENIs: 2, PodENIs: enis(prefixesUsed(fill...))},
			plan{pool.Create, "", 1, pool.Prefix, ""},
		},
		"a type with one ENI can hold no pods on a pod network": {
			pool.Input{Geometry: pool.Geometry{ENIs: 1, AddressesPerENI: 50}, Waiting: 1}, plan{action: pool.Exhausted},
		},
		"warm addresses stop at the node's max-pods": {
			pool.Input{Targets: pool.Targets{Prefix: 2}, MaxPods: 110, PodENIs: enis(prefixesUsed(append(fill[:6:6], 9)...))}, plan{action: pool.Satisfied},
		},
		"warm addresses are only asked for up to max-pods": {
			pool.Input{Targets: pool.Targets{Prefix: 5}, MaxPods: 40, PodENIs: enis(prefixesUsed(16))}, plan{pool.Assign, "a", 2, pool.Prefix, ""},
		},
		"pods that wait are served beyond max-pods while others cool": {
			pool.Input{Targets: warm, MaxPods: 32, Waiting: 10, PodENIs: enis(cooling(prefixesUsed(16, 6), 1, 10))}, plan{pool.Assign, "a", 1, pool.Prefix, ""},
		},
		"the IP target overrules the prefix target": {
			pool.Input{Targets: pool.Targets{Prefix: 5, IP: 3}, PodENIs: enis(prefixesUsed(13))}, plan{action: pool.Satisfied},
		},
		"the minimum is a floor of all addresses": {
			pool.Input{Targets: pool.Targets{MinimumIP: 40}, PodENIs: enis(prefixesUsed(0))}, plan{pool.Assign, "a", 2, pool.Prefix, ""},
		},
		"the minimum alone does not stop growth for pods that wait": {
			pool.Input{Targets: pool.Targets{MinimumIP: 16}, Waiting: 1, PodENIs: enis(prefixesUsed(16))}, plan{pool.Assign, "a", 1, pool.Prefix, ""},
		},

		"wholly free prefixes above the target go": {
			pool.Input{Targets: warm, PodENIs: enis(prefixesUsed(3, 0, 0, 0))}, plan{action: pool.Release, returns: "a:2"},
		},
		"a prefix with a cooling address stays": {
			pool.Input{Targets: warm, PodENIs: enis(cooling(prefixesUsed(3, 0, 0), 2, 1))}, plan{action: pool.Satisfied},
		},
		"an ENI with nothing but free prefixes goes as a whole": {
			pool.Input{Targets: warm, PodENIs: enis(prefixesUsed(3, 0), prefixesUsed(0, 0))}, plan{action: pool.Release, returns: "b:2 whole"},
		},
		"prefixes of the emptier ENI go first": {
			pool.Input{Targets: warm, PodENIs: enis(prefixesUsed(3, 0), prefixesUsed(1, 0))}, plan{action: pool.Release, returns: "b:1"},
		},
		"the IP target keeps what it needs": {
			pool.Input{Targets: pool.Targets{IP: 20}, PodENIs: enis(prefixesUsed(3, 0, 0))}, plan{action: pool.Release, returns: "a:1"},
		},
		"the minimum keeps what it needs": {
			pool.Input{Targets: pool.Targets{IP: 1, MinimumIP: 33}, PodENIs: enis(prefixesUsed(3, 0, 0))}, plan{action: pool.Satisfied},
		},
		"nothing goes that pods wait for": {
			pool.Input{Targets: warm, Waiting: 20, PodENIs: enis(prefixesUsed(16, 0, 0, 0))}, plan{action: pool.Satisfied},
		},
		"nothing goes while the use of addresses is not known": {
			pool.Input{Targets: warm, UsageUnknown: true, PodENIs: enis(prefixesUsed(3, 0, 0, 0))}, plan{action: pool.Satisfied},
		},

		"a subnet without a /28 gives addresses, as many as the prefixes would have": {
			pool.Input{Targets: warm, Waiting: 3, CreateUnit: pool.SingleAddress, Geometry: pool.Geometry{ENIs: 4, AddressesPerENI: 30}},
			plan{pool.Create, "", 19, pool.SingleAddress, ""},
		},
		"single addresses leave a slot to a /28": {
			pool.Input{Targets: warm, Waiting: 3, Geometry: pool.Geometry{ENIs: 2, AddressesPerENI: 10}, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Unit: pool.SingleAddress, Blocks: singlesUsed(7, 7)}}},
			plan{pool.Assign, "a", 1, pool.SingleAddress, ""},
		},
		"the last slot is a /28's, though a pod waits": {
			pool.Input{Targets: warm, Waiting: 1, Geometry: pool.Geometry{ENIs: 2, AddressesPerENI: 10}, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Unit: pool.SingleAddress, Blocks: singlesUsed(8, 8)}}},
			plan{action: pool.Exhausted},
		},
		"and it is given to one": {
			pool.Input{Targets: warm, Waiting: 1, Geometry: pool.Geometry{ENIs: 2, AddressesPerENI: 10}, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Unit: pool.Prefix, Blocks: singlesUsed(8, 8)}}},
			plan{pool.Assign, "a", 1, pool.Prefix, ""},
		},
		"an instance with one slot takes what there is": {
			pool.Input{Targets: warm, Waiting: 1, CreateUnit: pool.SingleAddress, Geometry: pool.Geometry{ENIs: 2, AddressesPerENI: 2}},
			plan{pool.Create, "", 1, pool.SingleAddress, ""},
		},
		"a new ENI with prefixes comes before single addresses": {
			pool.Input{Targets: warm, Waiting: 3, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Unit: pool.SingleAddress, Blocks: prefixesUsed(16)}}},
			plan{pool.Create, "", 2, pool.Prefix, ""},
		},
		"an ENI in a subnet that refused is passed over": {
			pool.Input{Waiting: 1, CreateUnit: -1, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Unit: -1, Blocks: prefixesUsed(16)}, {ID: "b", DeviceIndex: 2, Blocks: prefixesUsed(16)}}},
			plan{pool.Assign, "b", 1, pool.Prefix, ""},
		},
		"subnets that give nothing are exhaustion": {
			pool.Input{Waiting: 1, CreateUnit: -1, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Unit: -1, Blocks: prefixesUsed(16)}}},
			plan{action: pool.Exhausted},
		},
		"a subnet that refused many is asked for fewer": {
			pool.Input{Targets: warm, Waiting: 60, Most: 2}, plan{pool.Create, "", 2, pool.Prefix, ""},
		},
		"once prefixes are back, single addresses above the target go": {
			pool.Input{Targets: warm, PodENIs: enis(append(prefixesUsed(0), singlesUsed(3, 1)...))}, plan{action: pool.Release, returns: "a:2"},
		},
		"once prefixes are back, free single addresses make room for one": {
			pool.Input{Targets: warm, CreateUnit: -1, PodENIs: enis(singlesUsed(9, 2))}, plan{action: pool.Release, returns: "a:1"},
		},
		"no address goes for a prefix while a pod waits": {
			pool.Input{Targets: warm, Waiting: 1, CreateUnit: -1, PodENIs: enis(singlesUsed(9, 2))}, plan{action: pool.Exhausted},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := tc.in
			in.Prefixes = true
			require.Equal(t, tc.want, decide(t, in))
		})
	}
}

func TestDecideWithSingleAddresses(t *testing.T) {
	warm := pool.Targets{Prefix: 1, ENI: 1}
	for name, tc := range map[string]struct {
		in   pool.Input
		want plan
	}{
		"whole ENIs are kept warm":        {pool.Input{Targets: warm}, plan{pool.Create, "", 9, pool.SingleAddress, ""}},
		"an ENI is filled before another": {pool.Input{Targets: warm, PodENIs: enis(singlesUsed(4, 4))}, plan{pool.Assign, "a", 5, pool.SingleAddress, ""}},
		"the first pod brings the next":   {pool.Input{Targets: warm, PodENIs: enis(singlesUsed(9, 1))}, plan{pool.Create, "", 9, pool.SingleAddress, ""}},
		"max-pods bounds it":              {pool.Input{Targets: warm, MaxPods: 11, PodENIs: enis(singlesUsed(9, 1))}, plan{pool.Create, "", 2, pool.SingleAddress, ""}},
		"the IP target asks for just so many": {
			pool.Input{Targets: pool.Targets{IP: 3}, PodENIs: enis(singlesUsed(4, 3))}, plan{pool.Assign, "a", 2, pool.SingleAddress, ""},
		},
		"free addresses stay on an ENI that pods use": {pool.Input{Targets: pool.Targets{}, PodENIs: enis(singlesUsed(9, 1))}, plan{action: pool.Satisfied}},
		"an ENI above the target goes":                {pool.Input{Targets: warm, PodENIs: enis(singlesUsed(9, 0), singlesUsed(9, 0))}, plan{action: pool.Release, returns: "b:9 whole"}},
		"WARM_ENI_TARGET=0 makes no loop":             {pool.Input{Targets: pool.Targets{}, PodENIs: enis(singlesUsed(9, 0))}, plan{action: pool.Satisfied}},
		"addresses above the IP target go":            {pool.Input{Targets: pool.Targets{IP: 3}, PodENIs: enis(singlesUsed(9, 3))}, plan{action: pool.Release, returns: "a:3"}},
		"prefixes of a time before go":                {pool.Input{Targets: warm, PodENIs: enis(append(singlesUsed(9, 0), prefixesUsed(0)...))}, plan{action: pool.Release, returns: "a:1"}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, decide(t, tc.in)) })
	}
}

// decide fills in what a test leaves out: an m5.large with its primary ENI, in subnets that give what is asked for.
func decide(t *testing.T, in pool.Input) plan {
	t.Helper()
	wish := pool.SingleAddress
	if in.Prefixes {
		wish = pool.Prefix
	}
	if in.Geometry == (pool.Geometry{}) {
		in.Geometry = m5large
	}
	in.OtherENIs = max(in.OtherENIs, 1)
	for i := range in.PodENIs {
		in.PodENIs[i].Unit = orNone(in.PodENIs[i].Unit, wish)
	}
	in.CreateUnit = orNone(in.CreateUnit, wish)
	got := pool.Decide(in)
	if got.Action != pool.Satisfied {
		require.NotEmpty(t, got.Reason)
	}
	return short(got)
}

func orNone(u, wish pool.Unit) pool.Unit {
	switch u {
	case 0:
		return wish
	case -1:
		return 0
	}
	return u
}

// randomInput is any state that a node can be in.
func randomInput(rng *rand.Rand) pool.Input {
	units := []pool.Unit{0, pool.SingleAddress, pool.Prefix}
	in := pool.Input{
		Geometry: pool.Geometry{ENIs: 1 + rng.IntN(6), AddressesPerENI: 1 + rng.IntN(30)},
		Targets:  pool.Targets{Prefix: rng.IntN(4), IP: rng.IntN(3) * rng.IntN(20), MinimumIP: rng.IntN(3) * rng.IntN(60), ENI: rng.IntN(3)},
		Prefixes: rng.IntN(3) > 0, MaxPods: rng.IntN(2) * rng.IntN(250), OtherENIs: 1 + rng.IntN(2), ReservedENIs: rng.IntN(2),
		Waiting: rng.IntN(3) * rng.IntN(40), CreateUnit: units[rng.IntN(3)], Most: rng.IntN(2) * rng.IntN(5),
	}
	if !in.Prefixes {
		in.CreateUnit = min(in.CreateUnit, pool.SingleAddress)
	}
	next := 0
	for i := range rng.IntN(max(in.Geometry.ENIs-in.OtherENIs, 0) + 1) {
		e := pool.AttachedENI{ID: fmt.Sprint("eni-", i+1), DeviceIndex: i + 1, Unit: units[rng.IntN(3)]}
		if !in.Prefixes {
			e.Unit = min(e.Unit, pool.SingleAddress)
		}
		for range rng.IntN(in.Geometry.AddressesPerENI) {
			size := 1 + 15*rng.IntN(2)
			used := rng.IntN(2) * rng.IntN(size+1)
			cooling := rng.IntN(used + 1)
			bits := 32
			if size == 16 {
				bits = 28
			}
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64 + byte(next>>12), byte(next >> 4), byte(next << 4)}), bits)
			next++
			e.Blocks = append(e.Blocks, pool.Block{Prefix: p, Leased: used - cooling, Cooling: cooling, Returning: rng.IntN(5) == 0})
		}
		in.PodENIs = append(in.PodENIs, e)
	}
	return in
}

// apply lets the EC2 of a perfect world carry out a plan.
func apply(in *pool.Input, p pool.Plan, rng *rand.Rand) {
	blocks := func() (blocks []pool.Block) {
		bits := 32
		if p.Unit == pool.Prefix {
			bits = 28
		}
		for range p.Count {
			address := netip.AddrFrom4([4]byte{10, byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256))})
			prefix, _ := address.Prefix(bits)
			blocks = append(blocks, pool.Block{Prefix: prefix})
		}
		return blocks
	}
	switch p.Action {
	case pool.Assign:
		i := slices.IndexFunc(in.PodENIs, func(e pool.AttachedENI) bool { return e.ID == p.ENI })
		in.PodENIs[i].Blocks = append(in.PodENIs[i].Blocks, blocks()...)
	case pool.Create:
		index := 100 + len(in.PodENIs)
		in.PodENIs = append(in.PodENIs, pool.AttachedENI{ID: fmt.Sprint("eni-", index), DeviceIndex: index, Unit: in.CreateUnit, Blocks: blocks()})
	case pool.Release:
		for _, r := range p.Returns {
			i := slices.IndexFunc(in.PodENIs, func(e pool.AttachedENI) bool { return e.ID == r.ENI })
			in.PodENIs[i].Blocks = slices.DeleteFunc(in.PodENIs[i].Blocks, func(b pool.Block) bool { return slices.Contains(r.Prefixes, b.Prefix) })
			if r.Whole {
				in.PodENIs = slices.Delete(in.PodENIs, i, i+1)
			}
		}
	}
}

func TestPlansComeToRestAndWhatIsGivenBackIsNotFetchedAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 20000 {
		in := randomInput(rng)
		start := fmt.Sprintf("round %d: %+v", round, in)
		released := false
		for steps := 0; ; steps++ {
			require.Less(t, steps, 100, "no rest: %s", start)
			p := pool.Decide(in)
			if p.Action == pool.Satisfied || p.Action == pool.Exhausted {
				break
			}
			switch p.Action {
			case pool.Release:
				for _, r := range p.Returns {
					i := slices.IndexFunc(in.PodENIs, func(e pool.AttachedENI) bool { return e.ID == r.ENI })
					for _, b := range in.PodENIs[i].Blocks {
						if slices.Contains(r.Prefixes, b.Prefix) {
							require.Zero(t, b.Leased+b.Cooling, "a used block is given back: %s", start)
						} else {
							require.False(t, r.Whole, "a block stays on an ENI that goes: %s", start)
						}
					}
				}
				released = p.Reason != "single addresses make room for prefixes"
			default:
				require.Positive(t, p.Count, start)
				require.False(t, released, "fetched after giving back: %s\n%+v", start, p)
				if p.Action == pool.Create {
					require.LessOrEqual(t, in.OtherENIs+len(in.PodENIs)+1, in.Geometry.ENIs, start)
				}
			}
			apply(&in, p, rng)
			for _, e := range in.PodENIs {
				require.LessOrEqual(t, len(e.Blocks), in.Geometry.AddressesPerENI-1, start)
			}
		}
	}
}

func FuzzDecideAsksForSomethingPossible(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		in := randomInput(rand.New(rand.NewPCG(a, b)))
		switch p := pool.Decide(in); p.Action {
		case pool.Create:
			require.Greater(t, in.Geometry.ENIs, in.OtherENIs+len(in.PodENIs))
			require.Positive(t, p.Count)
			require.Less(t, p.Count, in.Geometry.AddressesPerENI)
			require.Equal(t, in.CreateUnit, p.Unit)
		case pool.Assign:
			i := slices.IndexFunc(in.PodENIs, func(e pool.AttachedENI) bool { return e.ID == p.ENI })
			require.Positive(t, p.Count)
			require.Less(t, len(in.PodENIs[i].Blocks)+p.Count, in.Geometry.AddressesPerENI)
			require.Equal(t, in.PodENIs[i].Unit, p.Unit)
		case pool.Release:
			require.NotEmpty(t, p.Returns)
		default:
			require.Zero(t, p.Count)
		}
	})
}
