// SPDX-License-Identifier: Apache-2.0

package provision_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/provision"
)

// draw an account in which people have made things, and a declaration.
func draw(r *rand.Rand) provision.Input {
	in := story()
	in.PerZone, in.ReservePrefixes = r.IntN(3) > 0, r.IntN(4) > 0
	in.SubnetBits = 16 + r.IntN(13)
	in.VPC.Blocks[0].CIDR = prefix([]string{"10.0.0.0/21", "172.16.0.0/16", "192.168.0.0/20", "100.64.0.0/16", "198.19.0.0/20", "54.0.0.0/16"}[r.IntN(6)])
	in.VPC.Subnets = nil
	in.CIDRs = nil
	for range 1 + r.IntN(3) {
		in.CIDRs = append(in.CIDRs, drawCIDR(r, 16, min(in.SubnetBits, 22)))
	}
	for range r.IntN(3) {
		addBlock(&in, r)
	}
	for i := range r.IntN(6) {
		addSubnet(&in, r, i)
	}
	for i := range r.IntN(4) {
		config := provision.ENIConfig{Name: []string{"a", "b", "default-a", "default-b-2"}[i], Selected: r.IntN(4) > 0}
		if len(in.VPC.Subnets) > 0 {
			config.Subnet = in.VPC.Subnets[r.IntN(len(in.VPC.Subnets))].ID
		}
		config.PodNetwork = []string{"", "default", "other"}[r.IntN(3)]
		in.ENIConfigs = append(in.ENIConfigs, config)
	}
	if r.IntN(3) == 0 {
		in.RouteTables = map[string]string{"*": []string{"rtb-nat", "rtb-main", "rtb-gone"}[r.IntN(3)]}
	}
	return in
}

func drawCIDR(r *rand.Rand, low, high int) netip.Prefix {
	bits := low + r.IntN(high-low+1)
	base := [][4]byte{{100, 64, 0, 0}, {100, 64, 0, 0}, {100, 65, 0, 0}, {100, 127, 0, 0}, {10, 0, 0, 0}, {10, 9, 0, 0}, {172, 31, 0, 0}, {54, 0, 0, 0}}[r.IntN(8)]
	base[2], base[3] = byte(r.IntN(256)), byte(r.IntN(256))
	return netip.PrefixFrom(netip.AddrFrom4(base), bits).Masked()
}

// within draws a block of a VPC's size in a range, or one that the range is a part of.
func within(r *rand.Rand, near string) netip.Prefix {
	base := prefix(near)
	a := base.Addr().As4()
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3]) | r.Uint32()>>base.Bits()
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), 16+r.IntN(9)).Masked()
}

func addBlock(in *provision.Input, r *rand.Rand) {
	cidr := drawCIDR(r, 16, 20)
	if provision.Associable(in.VPC.Blocks[0].CIDR, cidr) != nil {
		return
	}
	for _, b := range in.VPC.Blocks {
		if b.CIDR.Overlaps(cidr) {
			return
		}
	}
	states := []string{provision.Associated, provision.Associated, provision.Associating, provision.Disassociating, provision.Failed}
	in.VPC.Blocks = append(in.VPC.Blocks, provision.Block{ID: "block", CIDR: cidr, State: states[r.IntN(len(states))]})
}

func addSubnet(in *provision.Input, r *rand.Rand, i int) {
	block := in.VPC.Blocks[r.IntN(len(in.VPC.Blocks))]
	bits := max(block.CIDR.Bits(), 16+r.IntN(13))
	if r.IntN(2) == 0 {
		bits = max(bits, in.SubnetBits)
	}
	cidr := netip.PrefixFrom(block.CIDR.Addr(), bits)
	for _, s := range in.VPC.Subnets {
		if s.CIDR.Overlaps(cidr) {
			return
		}
	}
	s := provision.Subnet{ID: fmt.Sprint("their-", i), Zone: []string{"a", "b", "d"}[r.IntN(3)], CIDR: cidr}
	switch r.IntN(4) {
	case 0:
		s.Cluster, s.PodNetwork = "test", "default"
	case 1:
		s.Cluster, s.PodNetwork = "other", "default"
	}
	if r.IntN(3) == 0 {
		in.VPC.RouteTables[1].Subnets = append(in.VPC.RouteTables[1].Subnets, s.ID)
	}
	in.VPC.Subnets = append(in.VPC.Subnets, s)
}

// hold checks what is true of every account: a plan comes to an end, touches nothing of others, and a larger declaration adds to it.
func hold(t require.TestingT, r *rand.Rand) {
	in := draw(r)
	before := map[string]provision.Subnet{}
	for _, s := range in.VPC.Subnets {
		before[s.ID] = s
	}
	_, last := carry(t, &in)
	for _, s := range in.VPC.Subnets {
		if was, ok := before[s.ID]; ok && was.Cluster != in.Cluster {
			require.Equal(t, was, s, "not its own")
		}
	}
	for i, a := range last.Subnets {
		for _, b := range last.Subnets[:i] {
			require.NotEqual(t, a.ID, b.ID, "a subnet serves once")
		}
	}
	if len(last.Refusals) > 0 {
		return
	}
	require.True(t, last.Complete())
	in.NodeSubnets = append(in.NodeSubnets, provision.NodeSubnet{ID: "node-e", Zone: "e"})
	in.CIDRs = append(in.CIDRs, drawCIDR(r, 16, min(in.SubnetBits, 20)))
	_, larger := carry(t, &in)
	if len(larger.Refusals) > 0 && larger.Refusals[0].Zone == "" {
		return
	}
	for _, s := range last.Subnets {
		require.Contains(t, larger.Subnets, s, "a larger declaration only adds")
	}
}

func TestPlansHoldForAnyAccount(t *testing.T) {
	for seed := range uint64(20_000) {
		hold(t, rand.New(rand.NewPCG(seed, 1)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzPlan(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) { hold(t, rand.New(rand.NewPCG(a, b))) })
}
