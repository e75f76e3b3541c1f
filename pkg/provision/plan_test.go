// SPDX-License-Identifier: Apache-2.0

package provision_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/provision"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(list ...string) (parsed []netip.Prefix) {
	for _, s := range list {
		parsed = append(parsed, prefix(s))
	}
	return parsed
}

// story is the VPC of the team that ran out of addresses: a /21 with a node subnet in each of three zones, routed by a NAT gateway.
func story() provision.Input {
	return provision.Input{
		Declaration: provision.Declaration{
			Cluster: "test", PodNetwork: "default", CIDRs: prefixes("100.64.0.0/16"), SubnetBits: 19, ReservePrefixes: true, PerZone: true,
		},
		NodeSubnets: []provision.NodeSubnet{{ID: "node-c", Zone: "c"}, {ID: "node-a", Zone: "a"}, {ID: "node-b", Zone: "b"}},
		VPC: provision.VPC{
			ID:     "vpc-1",
			Blocks: []provision.Block{{ID: "block-0", CIDR: prefix("10.0.0.0/21"), State: provision.Associated}},
			Subnets: []provision.Subnet{
				{ID: "node-a", Zone: "a", CIDR: prefix("10.0.0.0/24")}, {ID: "node-b", Zone: "b", CIDR: prefix("10.0.1.0/24")},
				{ID: "node-c", Zone: "c", CIDR: prefix("10.0.2.0/24")}, {ID: "public", Zone: "a", CIDR: prefix("10.0.3.0/24")},
			},
			RouteTables: []provision.RouteTable{
				{ID: "rtb-main", Main: true}, {ID: "rtb-nat", Subnets: []string{"node-a", "node-b", "node-c"}, Destinations: prefixes("0.0.0.0/0")},
			},
		},
	}
}

// carry out plans until one is complete or stuck, as EC2 would, and return what was done.
func carry(t require.TestingT, in *provision.Input) (done []provision.Action, last provision.Plan) {
	for range 10_000 {
		last = provision.Make(*in)
		require.Equal(t, last, provision.Make(*in), "the same input gives the same plan")
		if len(last.Actions) == 0 {
			if len(last.Waiting) == 0 || !settle(in) {
				return done, last
			}
			continue
		}
		a := last.Actions[0]
		if !in.Ready(a) {
			require.True(t, settle(in), "a subnet waits for a block that nobody associates: %+v", a)
			continue
		}
		check(t, in, a)
		done = append(done, a)
		in.Apply(a, fmt.Sprint(a.Kind, a.CIDR))
	}
	require.Fail(t, "plans have no end")
	return nil, last
}

// settle ends the transitions of blocks.
func settle(in *provision.Input) (changed bool) {
	for i := range in.VPC.Blocks {
		switch b := &in.VPC.Blocks[i]; b.State {
		case provision.Associating:
			b.State, changed = provision.Associated, true
		case provision.Disassociating:
			b.State, changed = provision.Disassociated, true
		}
	}
	return changed
}

// check that EC2 takes an action.
func check(t require.TestingT, in *provision.Input, a provision.Action) {
	switch a.Kind {
	case provision.AssociateCIDR:
		require.NoError(t, provision.Associable(in.VPC.Blocks[0].CIDR, a.CIDR))
		for _, b := range in.VPC.Blocks {
			if b.State != provision.Disassociated {
				require.False(t, b.CIDR.Overlaps(a.CIDR), "blocks %s and %s", b.CIDR, a.CIDR)
			}
		}
	case provision.CreateSubnet:
		for _, s := range in.VPC.Subnets {
			require.False(t, s.CIDR.Overlaps(a.CIDR), "subnets %s and %s", s.CIDR, a.CIDR)
		}
	case provision.CreateReservation:
		s := in.Subnet(a)
		require.NotNil(t, s)
		require.True(t, s.CIDR.Contains(a.CIDR.Addr()) && a.CIDR.Bits() > s.CIDR.Bits() && a.CIDR.Bits() <= 28)
		for _, r := range s.Reservations {
			require.False(t, r.CIDR.Overlaps(a.CIDR))
		}
	case provision.AssociateRouteTable:
		require.NotNil(t, in.Subnet(a))
		for _, table := range in.VPC.RouteTables {
			require.NotContains(t, table.Subnets, in.Subnet(a).ID)
		}
	case provision.CreateENIConfig:
		require.NotNil(t, in.Subnet(a))
		require.False(t, slices.ContainsFunc(in.ENIConfigs, func(c provision.ENIConfig) bool { return c.Name == a.ENIConfig.Name }))
		require.LessOrEqual(t, len(a.ENIConfig.Name), 63)
	case provision.UpdateENIConfig:
		i := slices.IndexFunc(in.ENIConfigs, func(c provision.ENIConfig) bool { return c.Name == a.ENIConfig.Name })
		require.GreaterOrEqual(t, i, 0)
		require.Equal(t, in.PodNetwork, in.ENIConfigs[i].PodNetwork, "ENIConfigs of others are left alone")
	}
}

func kinds(actions []provision.Action) map[provision.Kind]int {
	counts := map[provision.Kind]int{}
	for _, a := range actions {
		counts[a.Kind]++
	}
	return counts
}

func TestThreeZonesGetTheirSubnets(t *testing.T) {
	in := story()
	require.False(t, provision.Make(in).Complete())
	done, last := carry(t, &in)
	require.True(t, last.Complete(), "%+v", last)
	require.Equal(t, map[provision.Kind]int{
		provision.AssociateCIDR: 1, provision.CreateSubnet: 3, provision.CreateReservation: 6, provision.AssociateRouteTable: 3, provision.CreateENIConfig: 3,
	}, kinds(done))
	var got []string
	for _, s := range last.Subnets {
		require.True(t, s.Own)
		got = append(got, fmt.Sprintf("%s %s %s ENIConfig %s, reserved %s %s", s.Zone, s.CIDR, s.RouteTable, s.ENIConfig, s.Reservations[0].CIDR, s.Reservations[1].CIDR))
	}
	require.Equal(t, []string{
		"a 100.64.0.0/19 rtb-nat ENIConfig a, reserved 100.64.16.0/20 100.64.8.0/21",
		"b 100.64.32.0/19 rtb-nat ENIConfig b, reserved 100.64.48.0/20 100.64.40.0/21",
		"c 100.64.64.0/19 rtb-nat ENIConfig c, reserved 100.64.80.0/20 100.64.72.0/21",
	}, got)
}

func TestTheAnswerToTheVPCsShape(t *testing.T) {
	associated := func(cidr string) provision.Block {
		return provision.Block{ID: "block-1", CIDR: prefix(cidr), State: provision.Associated}
	}
	for name, test := range map[string]struct {
		change func(*provision.Input)
		// reason of the first refusal, "" for none, and text in its message.
		reason, text string
		// zones that get pod subnets, and what is created.
		zones   string
		created int
		check   func(*testing.T, provision.Input, provision.Plan)
	}{
		"a part of a block that is there": {
			change: func(in *provision.Input) { in.VPC.Blocks = append(in.VPC.Blocks, associated("100.64.0.0/15")) }, zones: "abc", created: 3,
		},
		"a block larger than the one that is there": {
			change: func(in *provision.Input) { in.VPC.Blocks = append(in.VPC.Blocks, associated("100.64.0.0/17")) },
			reason: provision.ReasonCIDROverlaps, text: "declare 100.64.0.0/17 itself",
		},
		"declared ranges that overlap": {
			change: func(in *provision.Input) { in.CIDRs = prefixes("100.64.0.0/16", "100.64.128.0/17") }, reason: provision.ReasonCIDROverlaps,
		},
		"a range of another private class": {
			change: func(in *provision.Input) { in.CIDRs = prefixes("100.64.0.0/16", "172.20.0.0/16") }, reason: provision.ReasonCIDRRestricted, text: "172.16.0.0/12",
		},
		"a range with a route to a part of it": {
			change: func(in *provision.Input) { in.VPC.RouteTables[1].Destinations = prefixes("100.64.3.0/24") }, reason: provision.ReasonCIDRRouted, text: "rtb-nat has a route to 100.64.3.0/24",
		},
		"a range within a route's": {
			change: func(in *provision.Input) { in.VPC.RouteTables[1].Destinations = prefixes("100.64.0.0/10") }, zones: "abc", created: 3,
		},
		"an association that failed": {
			change: func(in *provision.Input) {
				in.VPC.Blocks = append(in.VPC.Blocks, provision.Block{ID: "block-1", CIDR: prefix("100.64.0.0/16"), State: provision.Failed, Message: "why"})
			},
			reason: provision.ReasonCIDRFailed, text: "block-1",
		},
		"an association that is going": {
			change: func(in *provision.Input) {
				in.VPC.Blocks = append(in.VPC.Blocks, provision.Block{CIDR: prefix("100.64.0.0/16"), State: provision.Disassociating})
			},
			zones: "abc", created: 3,
		},
		"as many blocks as a VPC can have": {
			change: func(in *provision.Input) {
				for i := range 49 {
					in.VPC.Blocks = append(in.VPC.Blocks, associated(fmt.Sprintf("100.65.%d.0/24", i)))
				}
			},
			reason: provision.ReasonTooManyCIDRs,
		},
		"room for two zones": {
			change: func(in *provision.Input) { in.CIDRs = prefixes("100.64.0.0/18") }, reason: provision.ReasonNoRoom, text: "zone c: no /19 is left", zones: "ab", created: 2,
		},
		"a second range with room for the third": {
			change: func(in *provision.Input) { in.CIDRs = prefixes("100.64.0.0/18", "100.70.0.0/16") }, zones: "abc", created: 3,
		},
		"a subnet that fits": {
			change: func(in *provision.Input) {
				in.VPC.Blocks = append(in.VPC.Blocks, associated("100.64.0.0/16"))
				in.VPC.Subnets = append(in.VPC.Subnets, provision.Subnet{ID: "theirs", Zone: "b", CIDR: prefix("100.64.0.0/19")})
			},
			zones: "abc", created: 2,
			check: func(t *testing.T, _ provision.Input, plan provision.Plan) {
				require.Equal(t, "theirs", plan.Subnets[1].ID)
				require.False(t, plan.Subnets[1].Own)
				require.Empty(t, plan.Subnets[1].Reservations, "it is theirs")
				require.Equal(t, "rtb-main", plan.Subnets[1].RouteTable)
			},
		},
		"a subnet of another size": {
			change: func(in *provision.Input) {
				in.VPC.Blocks = append(in.VPC.Blocks, associated("100.64.0.0/16"))
				in.VPC.Subnets = append(in.VPC.Subnets, provision.Subnet{ID: "theirs", Zone: "b", CIDR: prefix("100.64.0.0/20")})
			},
			reason: provision.ReasonSubnetDiffers, text: "theirs (100.64.0.0/20, b) lies in the declared CIDRs and is a /20 where", zones: "ac", created: 2,
		},
		"a subnet of another network, or that is to be left alone": {
			change: func(in *provision.Input) {
				in.VPC.Blocks = append(in.VPC.Blocks, associated("100.64.0.0/16"))
				in.VPC.Subnets = append(in.VPC.Subnets,
					provision.Subnet{ID: "other", Zone: "b", CIDR: prefix("100.64.0.0/19"), Cluster: "other", PodNetwork: "default"},
					provision.Subnet{ID: "none", Zone: "b", CIDR: prefix("100.64.64.0/20"), PodNetwork: "none"})
			},
			zones: "abc", created: 3,
			check: func(t *testing.T, _ provision.Input, plan provision.Plan) {
				require.Equal(t, []string{"100.64.32.0/19", "100.64.96.0/19", "100.64.128.0/19"}, []string{plan.Subnets[0].CIDR.String(), plan.Subnets[1].CIDR.String(), plan.Subnets[2].CIDR.String()})
			},
		},
		"a subnet in a zone without nodes": {
			change: func(in *provision.Input) {
				in.VPC.Blocks = append(in.VPC.Blocks, associated("100.64.0.0/16"))
				in.VPC.Subnets = append(in.VPC.Subnets, provision.Subnet{ID: "db", Zone: "d", CIDR: prefix("100.64.0.0/20")})
			},
			zones: "abc", created: 3,
		},
		"node subnets with two route tables in a zone": {
			change: func(in *provision.Input) {
				in.NodeSubnets = append(in.NodeSubnets, provision.NodeSubnet{ID: "public", Zone: "a"})
			},
			reason: provision.ReasonRouteTableAmbiguous, text: "node subnets node-a and public have different route tables (rtb-nat, rtb-main)", zones: "bc", created: 2,
		},
		"route tables by zone": {
			change: func(in *provision.Input) { in.RouteTables = map[string]string{"a": "rtb-main", "*": "rtb-nat"} }, zones: "abc", created: 3,
			check: func(t *testing.T, _ provision.Input, plan provision.Plan) {
				require.Equal(t, []string{"rtb-main", "rtb-nat", "rtb-nat"}, []string{plan.Subnets[0].RouteTable, plan.Subnets[1].RouteTable, plan.Subnets[2].RouteTable})
			},
		},
		"a route table that does not exist": {
			change: func(in *provision.Input) { in.RouteTables = map[string]string{"b": "rtb-gone", "*": "rtb-nat"} },
			reason: provision.ReasonRouteTableNotFound, text: "zone b: vpc-1 has no route table rtb-gone", zones: "ac", created: 2,
		},
		"a zone whose route table is not listed": {
			change: func(in *provision.Input) { in.RouteTables = map[string]string{"a": "rtb-nat", "b": "rtb-nat"} }, reason: provision.ReasonRouteTableNotListed, zones: "ab", created: 2,
		},
		"an ENIConfig of someone else": {
			change: func(in *provision.Input) {
				in.ENIConfigs = []provision.ENIConfig{{Name: "b", Subnet: "elsewhere", Selected: true}}
			},
			reason: provision.ReasonENIConfigOfSomeoneElse, text: `ENIConfig b is not this PodNetwork's and names subnet "elsewhere"`, zones: "ac", created: 2,
		},
		"an ENIConfig of someone else that names a subnet to adopt": {
			change: func(in *provision.Input) {
				in.VPC.Blocks = append(in.VPC.Blocks, associated("100.64.0.0/16"))
				in.VPC.Subnets = append(in.VPC.Subnets, provision.Subnet{ID: "first", Zone: "b", CIDR: prefix("100.64.0.0/19")}, provision.Subnet{ID: "second", Zone: "b", CIDR: prefix("100.64.32.0/19")})
				in.ENIConfigs = []provision.ENIConfig{{Name: "b", Subnet: "second", SecurityGroups: []string{"sg-1"}, Selected: true}}
			},
			zones: "abc", created: 2,
			check: func(t *testing.T, in provision.Input, plan provision.Plan) {
				require.Equal(t, "second", plan.Subnets[1].ID)
				require.Contains(t, in.ENIConfigs, provision.ENIConfig{Name: "b", Subnet: "second", SecurityGroups: []string{"sg-1"}, Selected: true}, "as it was")
			},
		},
		"an ENIConfig of another network": {
			change: func(in *provision.Input) {
				in.ENIConfigs = []provision.ENIConfig{{Name: "b", Subnet: "elsewhere", PodNetwork: "other", Controlled: true}}
			},
			reason: provision.ReasonENIConfigOfSomeoneElse, text: "does not select it", zones: "ac", created: 2,
		},
		"its own ENIConfig whose subnet is gone": {
			change: func(in *provision.Input) {
				in.ENIConfigs = []provision.ENIConfig{{Name: "b", Subnet: "gone", PodNetwork: "default", Selected: true, Controlled: true}}
			},
			zones: "abc", created: 3,
		},
		"ENIConfigs of other names": {
			change: func(in *provision.Input) {
				in.PerZone = false
				in.CIDRs = prefixes("100.64.0.0/16", "100.65.0.0/16")
				in.ENIConfigs = []provision.ENIConfig{{Name: "default-a", Subnet: "elsewhere"}, {Name: "default-b-2", Subnet: "gone", PodNetwork: "default", Selected: true, Controlled: true}}
			},
			zones: "aabbcc", created: 6,
			check: func(t *testing.T, _ provision.Input, plan provision.Plan) {
				var names []string
				for _, s := range plan.Subnets {
					names = append(names, s.ENIConfig)
				}
				require.Equal(t, []string{"default-a-2", "default-a-3", "default-b", "default-b-2", "default-c", "default-c-2"}, names)
			},
		},
		"prefixes are not delegated": {
			change: func(in *provision.Input) { in.ReservePrefixes = false }, zones: "abc", created: 3,
			check: func(t *testing.T, _ provision.Input, plan provision.Plan) {
				require.Empty(t, plan.Subnets[0].Reservations)
			},
		},
		"its own subnet with somebody's reservation": {
			change: func(in *provision.Input) {
				in.VPC.Blocks = append(in.VPC.Blocks, associated("100.64.0.0/16"))
				in.VPC.Subnets = append(in.VPC.Subnets, provision.Subnet{
					ID: "own", Zone: "b", CIDR: prefix("100.64.0.0/19"), Cluster: "test", PodNetwork: "default",
					Reservations: []provision.Reservation{{ID: "scr-1", CIDR: prefix("100.64.16.0/28"), Explicit: true}},
				})
			},
			reason: provision.ReasonReservationOverlaps, text: "scr-1", zones: "abc", created: 2,
		},
		"its own subnet whose route table somebody changed": {
			change: func(in *provision.Input) {
				in.VPC.Blocks = append(in.VPC.Blocks, associated("100.64.0.0/16"))
				in.VPC.Subnets = append(in.VPC.Subnets, provision.Subnet{ID: "own", Zone: "b", CIDR: prefix("100.64.0.0/18"), Cluster: "test", PodNetwork: "default"})
				in.VPC.RouteTables = append(in.VPC.RouteTables, provision.RouteTable{ID: "rtb-theirs", Subnets: []string{"own"}})
			},
			zones: "abc", created: 2,
			check: func(t *testing.T, _ provision.Input, plan provision.Plan) {
				require.Len(t, plan.Notes, 2)
				require.Contains(t, plan.Notes[0], "keeps route table rtb-theirs")
				require.Contains(t, plan.Notes[1], "stays a /18")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := story()
			test.change(&in)
			done, last := carry(t, &in)
			if test.reason == "" {
				require.True(t, last.Complete(), "%+v", last)
			} else {
				require.NotEmpty(t, last.Refusals)
				require.Equal(t, test.reason, last.Refusals[0].Reason)
				require.Contains(t, last.Refusals[0].Message, test.text)
			}
			zones := ""
			for _, s := range last.Subnets {
				zones += s.Zone
			}
			require.Equal(t, test.zones, zones)
			require.Equal(t, test.created, kinds(done)[provision.CreateSubnet])
			if test.zones == "" {
				require.Empty(t, done, "nothing is begun that cannot be ended")
			}
			if test.check != nil {
				test.check(t, in, last)
			}
		})
	}
}

func TestALargerDeclarationOnlyAdds(t *testing.T) {
	in := story()
	in.CIDRs = prefixes("100.64.0.0/17")
	_, first := carry(t, &in)
	in.NodeSubnets = append(in.NodeSubnets, provision.NodeSubnet{ID: "node-d", Zone: "d"}, provision.NodeSubnet{ID: "node-e", Zone: "e"})
	in.RouteTables = map[string]string{"*": "rtb-nat"}
	_, second := carry(t, &in)
	require.Equal(t, provision.ReasonNoRoom, second.Refusals[0].Reason)
	require.Equal(t, "e", second.Refusals[0].Zone)
	in.CIDRs = append(in.CIDRs, prefix("100.65.0.0/16"))
	done, third := carry(t, &in)
	require.True(t, third.Complete(), "%+v", third)
	require.Equal(t, map[provision.Kind]int{
		provision.AssociateCIDR: 1, provision.CreateSubnet: 1, provision.CreateReservation: 2, provision.AssociateRouteTable: 1, provision.CreateENIConfig: 1,
	}, kinds(done))
	require.Equal(t, first.Subnets, third.Subnets[:3])
	in.CIDRs = in.CIDRs[1:]
	in.NodeSubnets = in.NodeSubnets[1:]
	done, fourth := carry(t, &in)
	require.True(t, fourth.Complete())
	require.Empty(t, done, "a smaller declaration removes nothing, and moves nothing")
}
