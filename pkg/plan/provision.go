// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/provisioning"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

// propose pod subnets where there is neither a PodNetwork nor an ENIConfig: the first /16 of the shared address space that is nobody's.
func (p *planner) propose() {
	if p.facts.From != FromNobody || len(p.facts.ENIConfigs) > 0 || p.couldNotRead("ENIConfigs") || p.facts.VPC == nil || p.facts.IPv6 {
		return
	}
	for second := 64; second < 128; second++ {
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(second), 0, 0}), 16)
		if !p.taken(cidr) {
			p.facts.Network.Spec.Provision = &v1alpha1.Provision{CIDRs: []string{cidr.String()}, SubnetPrefixLength: 19}
			return
		}
	}
}

// taken tells whether anything that the plan compares has addresses of the CIDR.
func (p *planner) taken(cidr netip.Prefix) bool {
	vpc := p.facts.VPC
	others := slices.Concat(vpc.Blocks, p.facts.ServiceCIDRs)
	for _, peering := range vpc.Peerings {
		others = append(others, peering.CIDRs...)
	}
	for _, gateway := range vpc.TransitGateways {
		for _, route := range slices.Concat(gateway.Routes, gateway.Announced) {
			if route.Destination.Bits() > 0 {
				others = append(others, route.Destination)
			}
		}
	}
	for _, table := range vpc.RouteTables {
		for _, route := range table.Routes {
			if route.Destination.IsValid() && route.Destination.Bits() > 0 {
				others = append(others, route.Destination)
			}
		}
	}
	return slices.ContainsFunc(others, cidr.Overlaps)
}

// whyRefused: the messages of the planner of spec.provision say what and how to mend it.
const whyRefused = "the controller could not extend the VPC as spec.provision declares"

// provision adds the pod subnets that the controller would make.
func (p *planner) provision() {
	network := p.facts.Network
	if network.Spec.Provision == nil || p.facts.VPC == nil || p.facts.IPv6 {
		return
	}
	declared, err := provisioning.Declare(network, p.facts.ClusterName)
	if err != nil {
		p.found.add(Harm, provisioning.ReasonInvalid, err.Error(), whyRefused, "")
		return
	}
	p.declared = declared.CIDRs
	in := provision.Input{Declaration: declared, VPC: p.facts.VPC.Provision}
	for _, id := range p.nodeSubnets() {
		in.NodeSubnets = append(in.NodeSubnets, provision.NodeSubnet{ID: id, Zone: p.facts.Subnets[id].Zone})
	}
	if len(in.NodeSubnets) == 0 {
		return // said elsewhere
	}
	selector, err := metav1.LabelSelectorAsSelector(&network.Spec.ENIConfigs.Selector)
	in.ENIConfigs = lo.Map(p.facts.ENIConfigs, func(c eniconfig.ENIConfig, _ int) provision.ENIConfig {
		found := provision.ENIConfig{Name: c.Name, Subnet: c.Spec.Subnet, SecurityGroups: c.Spec.SecurityGroups, Selected: err == nil && selector.Matches(labels.Set(c.Labels))}
		if owner := metav1.GetControllerOf(&c); owner != nil && owner.Kind == "PodNetwork" {
			found.PodNetwork, found.Controlled = owner.Name, owner.UID == network.UID
		} else if owner == nil {
			found.PodNetwork = c.Annotations[v1alpha1.AnnotationProvision]
		}
		return found
	})
	made := provision.Make(in)
	for _, refusal := range made.Refusals {
		if p.blind(refusal.Reason) {
			continue
		}
		p.found.add(lo.Ternary(refusal.Zone == "", Harm, Warning), refusal.Reason, refusal.Message, whyRefused, "")
	}
	p.addPlanned(made)
}

// addPlanned subnets, and those that exist and get an ENIConfig.
func (p *planner) addPlanned(made provision.Plan) {
	planned := map[netip.Prefix]*podSubnet{}
	var order []netip.Prefix
	reservations := map[netip.Prefix][]netip.Prefix{}
	for _, a := range made.Actions {
		switch a.Kind {
		case provision.AssociateCIDR:
			p.newBlocks++
		case provision.CreateSubnet:
			order = append(order, a.CIDR)
			planned[a.CIDR] = &podSubnet{zone: a.Zone, planned: true, Subnet: podnetwork.Subnet{ID: "new", VPC: p.facts.VPC.ID, Zone: a.Zone, CIDR: a.CIDR}}
		case provision.CreateReservation:
			reservations[a.SubnetCIDR] = append(reservations[a.SubnetCIDR], a.CIDR)
		case provision.AssociateRouteTable:
			if s := planned[a.SubnetCIDR]; s != nil {
				s.routeTable = a.RouteTable
			}
		case provision.CreateENIConfig, provision.UpdateENIConfig:
			if s := planned[a.SubnetCIDR]; s != nil {
				s.eniConfig = a.ENIConfig.Name
			}
		}
	}
	for _, cidr := range order {
		s := planned[cidr]
		s.snapshot = podnetwork.NewSnapshot(fmt.Sprint("new ", cidr), cidr, nil, podnetwork.Reservations{Prefix: reservations[cidr]}, time.Time{})
		p.podSubnets = append(p.podSubnets, *s)
	}
	for _, s := range made.Subnets {
		served := slices.ContainsFunc(p.podSubnets, func(known podSubnet) bool { return known.ID == s.ID })
		if !served { // its ENIConfig is yet to be written
			p.podSubnets = append(p.podSubnets, podSubnet{zone: s.Zone, eniConfig: s.ENIConfig, Subnet: p.facts.Subnets[s.ID], snapshot: p.facts.Snapshots[s.ID]})
		}
	}
}
