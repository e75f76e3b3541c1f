// SPDX-License-Identifier: Apache-2.0

package podnetwork_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

func prefixes(cidrs ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range cidrs {
		out = append(out, netip.MustParsePrefix(c))
	}
	return out
}

func TestCapacityCountsBlocksThatNothingTouches(t *testing.T) {
	tests := map[string]struct {
		usage podnetwork.Usage
		want  podnetwork.Capacity
	}{
		"an empty /24 loses its first and last block to AWS's five addresses": {
			podnetwork.Usage{CIDR: netip.MustParsePrefix("100.64.0.0/24")},
			podnetwork.Capacity{FreePrefixes: 14, FreeAddresses: 251, Fragmentation: 10},
		},
		"an empty /19": {
			podnetwork.Usage{CIDR: netip.MustParsePrefix("100.64.0.0/19")},
			podnetwork.Capacity{FreePrefixes: 510, FreeAddresses: 8187},
		},
		"one address spoils a block": {
			podnetwork.Usage{CIDR: netip.MustParsePrefix("100.64.0.0/24"), Taken: prefixes("100.64.0.40/32", "100.64.0.64/28")},
			podnetwork.Capacity{FreePrefixes: 12, FreeAddresses: 234, Fragmentation: 17},
		},
		"prefixes come from the reservation, single addresses do not": {
			podnetwork.Usage{CIDR: netip.MustParsePrefix("100.64.0.0/24"), PrefixReservations: prefixes("100.64.0.128/25")},
			podnetwork.Capacity{FreePrefixes: 7, FreeAddresses: 124, Reserved: 128, Fragmentation: 11},
		},
		"explicit reservations give neither": {
			podnetwork.Usage{CIDR: netip.MustParsePrefix("100.64.0.0/24"), ExplicitReservations: prefixes("100.64.0.128/25")},
			podnetwork.Capacity{FreePrefixes: 7, FreeAddresses: 124, Fragmentation: 9},
		},
		"one address in each block leaves none": {
			podnetwork.Usage{CIDR: netip.MustParsePrefix("100.64.0.0/26"), Taken: prefixes("100.64.0.17/32", "100.64.0.33/32")},
			podnetwork.Capacity{FreeAddresses: 57, Fragmentation: 100},
		},
		"the smallest subnet": {
			podnetwork.Usage{CIDR: netip.MustParsePrefix("100.64.0.0/28")},
			podnetwork.Capacity{FreeAddresses: 11, Fragmentation: 100},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, podnetwork.CapacityOf(test.usage)) })
	}
}

func TestTakingABlockNeverAddsCapacity(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		usage := podnetwork.Usage{CIDR: netip.MustParsePrefix("100.64.0.0/22")}
		before := podnetwork.CapacityOf(usage)
		for range 80 {
			bits := []int{28, 32}[random.IntN(2)]
			address := netip.AddrFrom4([4]byte{100, 64, byte(random.IntN(4)), byte(random.IntN(256))})
			usage.Taken = append(usage.Taken, netip.PrefixFrom(address, bits).Masked())
			after := podnetwork.CapacityOf(usage)
			require.LessOrEqual(t, after.FreePrefixes, before.FreePrefixes)
			require.LessOrEqual(t, after.FreeAddresses, before.FreeAddresses)
			require.LessOrEqual(t, after.FreePrefixes*16, after.FreeAddresses)
			require.GreaterOrEqual(t, before.FreePrefixes-after.FreePrefixes, 0)
			require.LessOrEqual(t, before.FreePrefixes-after.FreePrefixes, 1, "a block or an address lies in one block")
			before = after
		}
	}
}

func FuzzCapacityStaysWithinTheSubnet(f *testing.F) {
	f.Add(uint8(24), []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, bits uint8, addresses []byte) {
		usage := podnetwork.Usage{CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 16+int(bits%13))}
		for i := 0; i+1 < len(addresses); i += 2 {
			usage.Taken = append(usage.Taken, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, addresses[i], addresses[i+1]}), 32))
		}
		c := podnetwork.CapacityOf(usage)
		size := 1 << (32 - usage.CIDR.Bits())
		require.LessOrEqual(t, c.FreeAddresses, size-5)
		require.LessOrEqual(t, c.FreePrefixes, max(size/16-1, 0))
		require.GreaterOrEqual(t, c.Fragmentation, 0)
		require.LessOrEqual(t, c.Fragmentation, 100)
	})
}

func TestTheMapShowsEachBlock(t *testing.T) {
	s := podnetwork.NewSnapshot("subnet-1", netip.MustParsePrefix("100.64.0.0/24"), []podnetwork.ENI{
		{Addresses: prefixes("100.64.0.40/32"), Prefixes: prefixes("100.64.0.64/28")},
	}, podnetwork.Reservations{Explicit: prefixes("100.64.0.128/27")}, time.Time{})
	text, bits := podnetwork.Drawing{}.Map(s.CIDR, s.Blocks)
	require.Equal(t, "100.64.0.0      +.+.#...--.....+\n", text)
	require.Equal(t, 28, bits)
	s = podnetwork.NewSnapshot("subnet-1", netip.MustParsePrefix("100.64.0.0/22"), nil, podnetwork.Reservations{Prefix: prefixes("100.64.2.0/23")}, time.Time{})
	text, _ = podnetwork.Drawing{Width: 60}.Map(s.CIDR, s.Blocks)
	require.Equal(t, "100.64.0.0      +--------------- ----------------\n100.64.2.0      ................ ...............+\n", text)
	for line := range strings.Lines(s.Blocks.String()) {
		for _, state := range line {
			require.Contains(t, podnetwork.Legend, string(state)+"  ")
		}
	}
}

func TestTheMapOfALargeSubnetFitsItsPlace(t *testing.T) {
	cidr := netip.MustParsePrefix("100.64.0.0/16")
	quarter := podnetwork.ENI{Prefixes: prefixes("100.64.0.64/28", "100.64.0.80/28", "100.64.0.96/28", "100.64.0.112/28", "100.64.0.128/28", "100.64.0.144/28", "100.64.0.160/28", "100.64.0.176/28")}
	s := podnetwork.NewSnapshot("subnet-1", cidr, []podnetwork.ENI{quarter}, podnetwork.Reservations{}, time.Time{})
	text, bits := podnetwork.Drawing{Width: 50, Lines: 16}.Map(s.CIDR, s.Blocks)
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	require.Len(t, lines, 16)
	require.Equal(t, 25, bits)
	require.Equal(t, "100.64.0.0      35.............. ................", lines[0], "3 of 8 free, with AWS's own; and 4 of 8")
	require.Equal(t, "100.64.240.0    ................ ...............8", lines[15])
	text, bits = podnetwork.Drawing{}.Map(s.CIDR, s.Blocks)
	require.Equal(t, 27, bits)
	require.Len(t, strings.Split(text, "\n")[0], 80, "64 cells on a terminal")
	for width := range 200 {
		for _, bits := range []int{16, 19, 20, 24, 28} {
			s := podnetwork.NewSnapshot("subnet-1", netip.PrefixFrom(cidr.Addr(), bits), nil, podnetwork.Reservations{}, time.Time{})
			text, bits := podnetwork.Drawing{Width: width, Lines: 20}.Map(s.CIDR, s.Blocks)
			cells := 0
			for line := range strings.Lines(text) {
				require.LessOrEqual(t, len(line), max(width, 80)+1)
				if width >= 30 {
					require.LessOrEqual(t, len(line), width+1)
				}
				cells += len(strings.ReplaceAll(line[16:], " ", "")) - 1
			}
			require.LessOrEqual(t, strings.Count(text, "\n"), 20)
			require.Equal(t, len(s.Blocks)>>(28-bits), cells, "width %d of a /%d", width, bits)
		}
	}
}

func BenchmarkCapacityOfA16With5000ENIs(b *testing.B) {
	random := rand.New(rand.NewPCG(5, 6))
	anywhere := func(bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(random.IntN(256)), byte(random.IntN(256))}), bits).Masked()
	}
	enis := make([]podnetwork.ENI, 5000)
	for i := range enis {
		enis[i] = podnetwork.ENI{Instance: fmt.Sprint("i-", i), Addresses: []netip.Prefix{anywhere(32)}}
		for range 7 { // what 110 pods need; they overlap, which changes nothing here
			enis[i].Prefixes = append(enis[i].Prefixes, anywhere(28))
		}
	}
	reservations := podnetwork.Reservations{Prefix: prefixes("100.64.128.0/17"), Explicit: prefixes("100.64.0.0/20")}
	b.ReportAllocs()
	for b.Loop() {
		podnetwork.NewSnapshot("subnet-1", netip.MustParsePrefix("100.64.0.0/16"), enis, reservations, time.Time{})
	}
}

func TestBlocksOfAnEmptySubnetAreItsFreeBlocks(t *testing.T) {
	for bits := 16; bits <= 28; bits++ {
		subnet := netip.PrefixFrom(netip.MustParseAddr("100.64.0.0"), bits)
		require.Equal(t, podnetwork.CapacityOf(podnetwork.Usage{CIDR: subnet}).FreePrefixes, podnetwork.BlocksOf(subnet), subnet)
	}
}
