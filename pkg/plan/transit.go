// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// transit gateways know who else has the pods' range. A VPC's route table may lead there by a default route, or by one for all of
// 10.0.0.0/8: what lies behind it only the gateway's own tables show.
func (p *planner) transit() {
	if p.facts.VPC == nil {
		return
	}
	for _, pods := range p.podRanges() {
		for _, gateway := range p.facts.VPC.TransitGateways {
			for _, route := range gateway.Routes {
				if overlapsApart(route.Destination, pods) {
					p.found.add(p.transitSeverity(), ReasonCIDROverlapsTransit, fmt.Sprintf("the pods' range %s overlaps %s, which transit gateway %s routes to %s (%s)", pods, route.Destination, gateway.ID, route.to(), route.Table),
						"the VPC's own ranges win over the gateway: what has those addresses on the other side cannot be reached from this VPC any more"+p.withOwnAddresses(),
						"put the pods into a range that nobody behind the transit gateway has, or make sure that nothing in this VPC asks for "+route.Destination.String()+" over there")
				}
			}
			for _, route := range gateway.Announced {
				if route.Propagated && overlapsApart(route.Destination, pods) {
					p.found.add(p.transitSeverity(), ReasonCIDROverlapsTransit, fmt.Sprintf("the pods' range %s would be propagated to %s of transit gateway %s, where %s has %s already", pods, route.Table, gateway.ID, route.to(), route.Destination),
						"of two attachments with the same range a transit gateway takes one, and of two that overlap the more specific: others reach one of the two VPCs only"+p.withOwnAddresses(),
						"put the pods into a range that nobody behind the transit gateway has; or keep spec.snat.policy at NodeAddress, so that others never see a pod's address")
				}
			}
		}
	}
}

// transitSeverity: with the node's address packets find back whoever has the pods' range; with their own they do not.
func (p *planner) transitSeverity() Severity {
	if p.facts.Network.Spec.SNAT.Policy == v1alpha1.SNATNone {
		return Harm
	}
	return Warning
}

func (p *planner) withOwnAddresses() string {
	if p.facts.Network.Spec.SNAT.Policy == v1alpha1.SNATNone {
		return "; with spec.snat.policy None pods send with their own address, and answers go to whoever else has it"
	}
	return ""
}

// overlapsApart: default routes overlap everything, and tell nothing.
func overlapsApart(route, pods netip.Prefix) bool {
	return route.IsValid() && route.Bits() > 0 && route.Overlaps(pods)
}

func (r TransitRoute) to() string {
	switch kind, _, _ := strings.Cut(r.To, "-"); kind {
	case "":
		return "nothing (a blackhole)"
	case "vpc":
		return "VPC " + r.To
	case "vpn":
		return "VPN connection " + r.To
	case "tgw":
		return "transit gateway " + r.To
	}
	return r.To
}
