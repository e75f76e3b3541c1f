// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// policy is what the router lets through.
type policy struct {
	vpc []netip.Prefix // may talk to each other
	nat []translation
}

// translation lets subnets reach the internet with a NAT gateway's public address.
type translation struct {
	subnets []netip.Prefix
	public  netip.Addr
}

func policyOf(s aws.Snapshot) policy {
	var p policy
	for _, vpc := range s.VPCs {
		p.vpc = append(p.vpc, vpc.CIDRs...)
	}
	tables := map[string]aws.RouteTable{}
	for _, table := range s.RouteTables {
		tables[table.ID] = table
	}
	for _, gateway := range s.NATGateways {
		if gateway.State != "available" {
			continue
		}
		t := translation{public: gateway.PublicIP}
		for _, subnet := range s.Subnets {
			if target(tables[subnet.RouteTableID], InternetHost) == gateway.ID {
				t.subnets = append(t.subnets, subnet.CIDR)
			}
		}
		if len(t.subnets) > 0 {
			p.nat = append(p.nat, t)
		}
	}
	return p
}

// target of the longest prefix that holds the address, "" when there is none.
func target(table aws.RouteTable, address netip.Addr) string {
	best, found := -1, ""
	for _, route := range table.Routes {
		if route.Destination.Contains(address) && route.Destination.Bits() > best {
			best, found = route.Destination.Bits(), route.Target
			if route.Blackhole {
				found = ""
			}
		}
	}
	return found
}

// applyRules makes the router's table what the snapshot says.
func (n *Network) applyRules(s aws.Snapshot, cables map[string]cable) error {
	p := policyOf(s)
	r := &ruleset{}
	forward := r.chain("forward")
	forward.strict, forward.hook = true, &hook{nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter}
	nat := r.chain("nat")
	nat.hook = &hook{nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource}
	forward.rule(tracked(), accept)
	vpc := r.interval("vpc", p.vpc)
	forward.rule(loadAddress(sourceOffset, 0), in(vpc), loadAddress(destinationOffset, 0), in(vpc), accept)
	for i, t := range p.nat {
		outward := slices.Concat(loadAddress(sourceOffset, 0), in(r.interval(fmt.Sprintf("nat%d", i), t.subnets)), leaving(uplink))
		forward.rule(outward, accept)
		nat.rule(outward, []expr.Any{
			&expr.Immediate{Register: register, Data: t.public.AsSlice()},
			&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: register},
		})
	}
	r.addGroups(s, cables)
	if err := n.firewall.apply(r); err != nil {
		return fmt.Errorf("router's rules: %w", err)
	}
	return nil
}

// interval is a set of prefixes that do not overlap.
func (r *ruleset) interval(name string, prefixes []netip.Prefix) *set {
	s := r.set(name, nftables.TypeIPAddr)
	s.interval = true
	for _, p := range prefixes {
		s.addInterval(p.Masked().Addr(), lastOf(p), nil)
	}
	return s
}
