// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"

	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// cgnat is the shared address space of RFC 6598. AWS routes it within a VPC only.
var cgnat = netip.MustParsePrefix("100.64.0.0/10")

// private tells of addresses that nobody on the internet can answer to.
func private(p netip.Prefix) bool { return cgnat.Overlaps(p) || p.Addr().IsPrivate() }

// routes out of the VPC: with SNAT packets leave by the node subnet, without by the pod subnet.
func (p *planner) routes() {
	if p.facts.VPC == nil {
		return
	}
	if p.facts.Network.Spec.SNAT.Policy != v1alpha1.SNATNone {
		without := lo.Filter(p.nodeSubnets(), func(id string, _ int) bool {
			_, ok := p.defaultRoute(p.tableOf(id))
			return !ok
		})
		if len(without) > 0 && len(p.facts.VPC.RouteTables) > 0 {
			p.found.add(Info, ReasonNoDefaultRoute, "node subnets without a default route: "+cli.Some(without),
				"pods reach the internet with their node's address, by its subnet's route table", "nothing, where pods need no internet (VPC endpoints serve AWS's APIs)")
		}
		return
	}
	if len(p.facts.VPC.RouteTables) == 0 {
		return // they could not be read: each VPC has one
	}
	for _, s := range p.podSubnets {
		table := s.routeTable
		if !s.planned {
			table = p.tableOf(s.ID)
		}
		route, ok := p.defaultRoute(table)
		name := fmt.Sprintf("pod subnet %s (%s, %s)", s.ID, s.CIDR, s.zone)
		nat := "with spec.snat.policy None pods send with their own address"
		fix := fmt.Sprintf("give route table %s a route 0.0.0.0/0 to a NAT gateway of the zone, or leave spec.snat.policy at NodeAddress", table)
		switch {
		case !ok:
			p.found.add(Harm, ReasonNoRouteToNAT, fmt.Sprintf("%s has no default route in %s", name, table), nat+", which nothing then takes to the internet", fix)
		case route.Blackhole:
			p.found.add(Harm, ReasonNoRouteToNAT, fmt.Sprintf("the default route of %s in %s leads to %s, which is gone", name, table, targetName(route.Target)), nat+", and packets to the internet are lost", fix)
		case strings.HasPrefix(route.Target, "igw-") && private(s.CIDR):
			p.found.add(Harm, ReasonNoRouteToNAT, fmt.Sprintf("the default route of %s in %s leads to %s", name, table, targetName(route.Target)), nat+", and an internet gateway drops what has no public address", fix)
		case !strings.HasPrefix(route.Target, "nat-") && cgnat.Overlaps(s.CIDR):
			p.found.add(Warning, ReasonNoRouteToNAT, fmt.Sprintf("the default route of %s in %s leads to %s, and to no NAT gateway", name, table, targetName(route.Target)),
				nat+", and few networks route 100.64.0.0/10 back", "make sure that what is behind it translates these addresses; or "+fix)
		}
	}
}

// tableOf a subnet: the one that it is associated with, else the VPC's main table.
func (p *planner) tableOf(subnet string) string {
	main := ""
	for _, table := range p.facts.VPC.RouteTables {
		if slices.Contains(table.Subnets, subnet) {
			return table.ID
		}
		if table.Main {
			main = table.ID
		}
	}
	return main
}

func (p *planner) defaultRoute(table string) (Route, bool) {
	t, _ := lo.Find(p.facts.VPC.RouteTables, func(t RouteTable) bool { return t.ID == table })
	return lo.Find(t.Routes, func(r Route) bool {
		return r.Destination.IsValid() && r.Destination.Bits() == 0 && r.Destination.Addr().Is4()
	})
}
