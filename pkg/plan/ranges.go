// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ranges of pods must be nobody else's.
func (p *planner) ranges() {
	for _, pods := range p.podRanges() {
		for _, services := range p.facts.ServiceCIDRs {
			if services.Overlaps(pods) {
				p.found.add(Harm, ReasonCIDROverlapsServices, fmt.Sprintf("the pods' range %s overlaps %s, which the cluster has for Services", pods, services),
					"a pod with the address of a Service cannot be reached from any node", "put the pods into another range; a cluster's range of Services cannot be changed")
			}
		}
		if p.facts.VPC == nil {
			continue
		}
		for _, peering := range p.facts.VPC.Peerings {
			for _, theirs := range peering.CIDRs {
				if theirs.Overlaps(pods) {
					p.found.add(Harm, ReasonCIDROverlapsPeer, fmt.Sprintf("the pods' range %s overlaps %s of %s, with which %s peers", pods, theirs, peering.VPC, peering.ID),
						"what pods send to those addresses stays in this VPC, and answers from there go astray", "put the pods into a range that the peer does not have, or end the peering")
				}
			}
		}
		for _, table := range p.facts.VPC.RouteTables {
			for _, route := range table.Routes {
				p.compareRoute(pods, table, route)
			}
		}
	}
}

// podRanges are the declared CIDRs and those of the pod subnets, without those that lie in another of them.
func (p *planner) podRanges() []netip.Prefix {
	all := slices.Clone(p.declared)
	for _, s := range p.podSubnets {
		all = append(all, s.CIDR.Masked())
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
	all = slices.Compact(all)
	return slices.DeleteFunc(slices.Clone(all), func(inner netip.Prefix) bool {
		return slices.ContainsFunc(all, func(outer netip.Prefix) bool { return outer.Bits() < inner.Bits() && outer.Contains(inner.Addr()) })
	})
}

// compareRoute of the VPC to elsewhere with a range of pods.
func (p *planner) compareRoute(pods netip.Prefix, table RouteTable, route Route) {
	if !route.Destination.IsValid() || route.Destination.Bits() == 0 || !route.Destination.Overlaps(pods) {
		return
	}
	what := fmt.Sprintf("the pods' range %s overlaps %s, which route table %s sends to %s", pods, route.Destination, table.ID, targetName(route.Target))
	if route.Destination.Bits() > pods.Bits() {
		p.found.add(Harm, ReasonCIDROverlapsRoute, what, "the more specific route wins over the VPC's own: packets to those pods would leave the VPC", "put the pods into another range, or remove the route")
		return
	}
	p.found.add(Warning, ReasonCIDROverlapsRoute, what, "what has those addresses on the other side cannot be reached from this VPC any more: its own ranges win", "make sure that nothing on the other side has addresses of "+pods.String())
}

func targetName(id string) string {
	kind, _, _ := strings.Cut(id, "-")
	switch kind {
	case "tgw":
		return "transit gateway " + id
	case "pcx":
		return "peering connection " + id
	case "vgw":
		return "virtual private gateway " + id
	case "nat":
		return "NAT gateway " + id
	case "igw":
		return "internet gateway " + id
	}
	return id
}
