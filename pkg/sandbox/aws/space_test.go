// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func addr(text string) netip.Addr     { return netip.MustParseAddr(text) }
func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func TestANewSubnetLacksFiveAddressesAndTheBlocksTheyTouch(t *testing.T) {
	for _, row := range []struct {
		cidr         string
		free, blocks int
	}{
		{"10.0.0.0/28", 11, 0},
		{"10.0.0.0/27", 27, 0},
		{"10.0.0.0/26", 59, 2},
		{"10.0.0.0/24", 251, 14},
		{"10.0.0.0/16", 65531, 4094},
	} {
		s := newSpace(prefix(row.cidr))
		require.Equal(t, row.free, s.free(), row.cidr)
		require.Len(t, s.freeBlocks(), row.blocks, row.cidr)
	}
}

func TestNamedAddressesAndPrefixesAreChecked(t *testing.T) {
	for _, row := range []struct {
		name, code string
		want       want
	}{
		{"outside", "InvalidParameterValue", want{addresses: []netip.Addr{addr("10.0.1.7")}}},
		{"the router", "InvalidParameterValue", want{addresses: []netip.Addr{addr("10.0.0.1")}}},
		{"the last", "InvalidParameterValue", want{addresses: []netip.Addr{addr("10.0.0.255")}}},
		{"taken", "InvalidIPAddress.InUse", want{addresses: []netip.Addr{addr("10.0.0.20")}}},
		{"twice", "InvalidIPAddress.InUse", want{addresses: []netip.Addr{addr("10.0.0.30"), addr("10.0.0.30")}}},
		{"prefix not aligned", "InvalidParameterValue", want{prefixes: []netip.Prefix{prefix("10.0.0.40/28")}}},
		{"prefix of another size", "InvalidParameterValue", want{prefixes: []netip.Prefix{prefix("10.0.0.32/27")}}},
		{"prefix outside", "InvalidParameterValue", want{prefixes: []netip.Prefix{prefix("10.0.1.32/28")}}},
		{"prefix over reserved addresses", "InvalidParameterValue", want{prefixes: []netip.Prefix{prefix("10.0.0.0/28")}}},
		{"prefix over an address", "InvalidIPAddress.InUse", want{prefixes: []netip.Prefix{prefix("10.0.0.16/28")}}},
		{"prefix over a prefix", "InvalidIPAddress.InUse", want{prefixes: []netip.Prefix{prefix("10.0.0.64/28")}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSpace(prefix("10.0.0.0/24"))
			s.take(addr("10.0.0.20"))
			s.takePrefix(prefix("10.0.0.64/28"))
			before := s.free()
			_, err := s.assign(row.want, rand.New(rand.NewPCG(1, 1)))
			var e *apiError
			require.ErrorAs(t, err, &e)
			require.Equal(t, row.code, e.code)
			require.Equal(t, before, s.free(), "a refused request takes nothing")
		})
	}
}

func TestASubnetTooFullAndASubnetTooFragmentedAreToldApart(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	full := newSpace(prefix("10.0.0.0/27"))
	for range 13 {
		_, ok := full.pick(random)
		require.True(t, ok)
	}
	_, err := full.assign(want{prefixCount: 1}, random)
	require.Equal(t, errSubnetFull, err)

	fragmented := newSpace(prefix("10.0.0.0/24"))
	for i := 5; i < 256; i += 16 {
		fragmented.take(fragmented.at(i))
	}
	require.Greater(t, fragmented.free(), 200)
	_, err = fragmented.assign(want{prefixCount: 1}, random)
	require.Equal(t, errSubnetFragmented, err)

	_, err = fragmented.assign(want{count: 300}, random)
	require.Equal(t, errSubnetAddresses, err)
}

func TestPrefixesComeFromTheirReservationFirstAndAddressesNever(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	s := newSpace(prefix("10.0.0.0/24"))
	s.reservations = []cidrReservation{
		{id: "scr-1", cidr: prefix("10.0.0.64/27")},
		{id: "scr-2", cidr: prefix("10.0.0.128/27"), explicit: true},
	}
	g, err := s.assign(want{prefixCount: 2}, random)
	require.NoError(t, err)
	require.ElementsMatch(t, []netip.Prefix{prefix("10.0.0.64/28"), prefix("10.0.0.80/28")}, g.prefixes)
	g, err = s.assign(want{prefixCount: 10}, random) // the rest of the general pool
	require.NoError(t, err)
	for _, p := range g.prefixes {
		require.False(t, prefix("10.0.0.128/27").Overlaps(p), "an explicit reservation is given by name only")
	}
	_, err = s.assign(want{prefixCount: 1}, random)
	require.Equal(t, errSubnetFragmented, err)
	for {
		a, ok := s.pick(random)
		if !ok {
			break
		}
		require.Nil(t, s.reservation(netip.PrefixFrom(a, 32)))
	}
	_, err = s.assign(want{addresses: []netip.Addr{addr("10.0.0.130")}}, random)
	require.NoError(t, err)
}

func TestPrimaryAddressesAreScattered(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	s := newSpace(prefix("10.0.0.0/16"))
	for range 500 {
		_, ok := s.pick(random)
		require.True(t, ok)
	}
	require.Less(t, len(s.freeBlocks()), 4094-400, "500 addresses spoil nearly as many blocks")
}

// FuzzASpaceGivesNothingTwice drives a space with arbitrary requests against a set of what is held.
func FuzzASpaceGivesNothingTwice(f *testing.F) {
	f.Add(uint64(1), []byte{0, 1, 2, 3, 0, 0, 1, 1, 2, 2, 3, 3})
	f.Add(uint64(9), []byte{1, 1, 1, 1, 1, 1, 0, 0, 0, 2, 2, 3, 1, 1, 0})
	f.Fuzz(func(t *testing.T, seed uint64, steps []byte) {
		random := rand.New(rand.NewPCG(seed, 0))
		s := newSpace(prefix("10.0.0.0/24"))
		s.reservations = []cidrReservation{{id: "scr-1", cidr: prefix("10.0.0.96/27")}}
		var held []given
		owner := map[netip.Addr]bool{}
		for _, step := range steps {
			switch n := int(step / 4); step % 4 {
			case 0, 1:
				w := want{count: n % 8}
				if step%4 == 1 {
					w = want{prefixCount: n%4 + 1}
				}
				before := s.free()
				g, err := s.assign(w, random)
				if err != nil {
					require.Equal(t, before, s.free())
					continue
				}
				require.Len(t, g.addresses, w.count)
				require.Len(t, g.prefixes, w.prefixCount)
				for _, a := range every(g) {
					require.False(t, owner[a], "%s is given twice", a)
					require.True(t, s.cidr.Contains(a))
					require.False(t, s.reserved(a))
					owner[a] = true
				}
				held = append(held, g)
			default:
				if len(held) == 0 {
					continue
				}
				i := n % len(held)
				for _, a := range every(held[i]) {
					delete(owner, a)
				}
				s.giveBack(held[i])
				held = append(held[:i], held[i+1:]...)
			}
			require.Equal(t, 251-len(owner), s.free())
		}
	})
}

func every(g given) []netip.Addr {
	all := append([]netip.Addr{}, g.addresses...)
	for _, p := range g.prefixes {
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			all = append(all, a)
		}
	}
	return all
}
