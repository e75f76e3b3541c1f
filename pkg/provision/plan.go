// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Make plans what is missing. A CIDR that cannot be had stops everything; a zone that cannot be served leaves the others.
func Make(in Input) Plan {
	p := &planner{in: in}
	p.index()
	p.blocks()
	if len(p.plan.Refusals) == 0 {
		for _, zone := range p.zones {
			p.zone(zone)
		}
	}
	if len(p.plan.Refusals) > 0 && p.plan.Refusals[0].Zone == "" {
		p.plan.Actions = nil
	}
	slices.SortStableFunc(p.plan.Actions, func(a, b Action) int { return cmp.Compare(order[a.Kind], order[b.Kind]) })
	return p.plan
}

var order = map[Kind]int{AssociateCIDR: 0, CreateSubnet: 1, CreateReservation: 2, AssociateRouteTable: 3, CreateENIConfig: 4, UpdateENIConfig: 4}

type planner struct {
	in   Input
	plan Plan

	zones []string // sorted
	nodes map[string]bool
	// tables by subnet: those that are associated explicitly.
	tables    map[string]string
	mainTable string
	// taken are the CIDRs of all subnets that are or will be.
	taken []netip.Prefix
	// names of ENIConfigs that are or will be, and those among them that get a new subnet.
	names, reused map[string]bool
}

func (p *planner) index() {
	p.nodes, p.tables, p.names, p.reused = map[string]bool{}, map[string]string{}, map[string]bool{}, map[string]bool{}
	zones := map[string]bool{}
	for _, s := range p.in.NodeSubnets {
		zones[s.Zone], p.nodes[s.ID] = true, true
	}
	p.zones = slices.Sorted(maps.Keys(zones))
	for _, t := range p.in.VPC.RouteTables {
		if t.Main {
			p.mainTable = t.ID
		}
		for _, s := range t.Subnets {
			p.tables[s] = t.ID
		}
	}
	p.in.NodeSubnets = slices.SortedFunc(slices.Values(p.in.NodeSubnets), func(a, b NodeSubnet) int { return cmp.Compare(a.ID, b.ID) })
	p.in.VPC.Subnets = slices.SortedFunc(slices.Values(p.in.VPC.Subnets), func(a, b Subnet) int {
		return cmp.Or(a.CIDR.Addr().Compare(b.CIDR.Addr()), cmp.Compare(a.CIDR.Bits(), b.CIDR.Bits()), cmp.Compare(a.ID, b.ID))
	})
	for _, s := range p.in.VPC.Subnets {
		p.taken = append(p.taken, s.CIDR)
	}
	p.in.ENIConfigs = slices.SortedFunc(slices.Values(p.in.ENIConfigs), func(a, b ENIConfig) int { return cmp.Compare(a.Name, b.Name) })
	for _, c := range p.in.ENIConfigs {
		p.names[c.Name] = true
	}
}

func (p *planner) act(a Action) { p.plan.Actions = append(p.plan.Actions, a) }

func (p *planner) refuse(reason, zone, format string, args ...any) {
	p.plan.Refusals = append(p.plan.Refusals, *refusal(reason, zone, format, args...))
}

func refusal(reason, zone, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Zone: zone, Message: fmt.Sprintf(format, args...)}
}

func (p *planner) wait(format string, args ...any) {
	p.plan.Waiting = append(p.plan.Waiting, fmt.Sprintf(format, args...))
}

func (p *planner) note(format string, args ...any) {
	p.plan.Notes = append(p.plan.Notes, fmt.Sprintf(format, args...))
}

// zone gets its pod subnets: one, or one in each CIDR.
func (p *planner) zone(zone string) {
	if p.in.PerZone {
		p.named(zone)
		return
	}
	served := map[string]bool{}
	for _, cidr := range p.in.CIDRs {
		s := p.existing(zone, []netip.Prefix{cidr})
		if s == nil && !p.make(zone, []netip.Prefix{cidr}, "") {
			continue
		}
		if s != nil {
			served[s.ID] = true
			p.serve(*s, "")
		}
	}
	for _, s := range p.in.VPC.Subnets { // those of CIDRs that are no longer declared
		if p.own(s) && s.Zone == zone && !served[s.ID] {
			p.serve(s, "")
		}
	}
}

// named serves a zone by the ENIConfig of its name.
func (p *planner) named(zone string) {
	config := p.config(zone)
	if config != nil {
		if !p.ours(*config) && !config.Selected {
			p.refuse(ReasonENIConfigOfSomeoneElse, zone, "ENIConfig %s is not this PodNetwork's, and spec.eniConfigs.selector does not select it: "+
				"set spec.eniConfigs.nodeLabel to k8s.amazonaws.com/eniConfig for ENIConfigs of other names", zone)
			return
		}
		if s := p.subnet(config.Subnet); s != nil && s.Zone == zone && (p.own(*s) || p.adoptable(*s, p.in.CIDRs)) {
			p.serve(*s, zone)
			return
		}
		if !p.ours(*config) {
			p.refuse(ReasonENIConfigOfSomeoneElse, zone, "ENIConfig %s is not this PodNetwork's and names subnet %q, which is no pod subnet of zone %s in the declared CIDRs: "+
				"delete it, let it name one of %v, or set spec.eniConfigs.nodeLabel to k8s.amazonaws.com/eniConfig for ENIConfigs of other names", zone, config.Subnet, zone, p.in.CIDRs)
			return
		}
	}
	s := p.anyOwn(zone)
	if s == nil {
		s = p.existing(zone, p.in.CIDRs)
	}
	if s != nil {
		p.serve(*s, zone)
		return
	}
	p.make(zone, p.in.CIDRs, zone)
}

func (p *planner) anyOwn(zone string) *Subnet {
	for i, s := range p.in.VPC.Subnets {
		if s.Zone == zone && p.own(s) {
			return &p.in.VPC.Subnets[i]
		}
	}
	return nil
}

func (p *planner) subnet(id string) *Subnet {
	for i := range p.in.VPC.Subnets {
		if p.in.VPC.Subnets[i].ID == id {
			return &p.in.VPC.Subnets[i]
		}
	}
	return nil
}

func (p *planner) config(name string) *ENIConfig {
	for i := range p.in.ENIConfigs {
		if p.in.ENIConfigs[i].Name == name {
			return &p.in.ENIConfigs[i]
		}
	}
	return nil
}
