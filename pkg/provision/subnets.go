// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"net/netip"
	"slices"
)

// smallestReserved is the smallest subnet that is worth reservations: in a /27, AWS keeps addresses of both /28s.
const smallestReserved = 26

// own tells that the subnet was made for this network.
func (p *planner) own(s Subnet) bool {
	return s.Cluster == p.in.Cluster && s.PodNetwork == p.in.PodNetwork
}

// adoptable tells that a subnet of nobody in particular is what would be created in its zone.
func (p *planner) adoptable(s Subnet, cidrs []netip.Prefix) bool {
	return p.stray(s, cidrs) && s.CIDR.Bits() == p.in.SubnetBits
}

// stray tells that a subnet lies in the CIDRs and is nobody's: no node subnet, and not tagged for a network.
func (p *planner) stray(s Subnet, cidrs []netip.Prefix) bool {
	return s.PodNetwork == "" && !p.nodes[s.ID] && slices.ContainsFunc(cidrs, func(c netip.Prefix) bool { return Contains(c, s.CIDR) })
}

// existing returns the zone's pod subnet in the CIDRs: its own before one to adopt.
func (p *planner) existing(zone string, cidrs []netip.Prefix) *Subnet {
	var adopt *Subnet
	for i := range p.in.VPC.Subnets {
		s := &p.in.VPC.Subnets[i]
		if s.Zone != zone {
			continue
		}
		if p.own(*s) && slices.ContainsFunc(cidrs, func(c netip.Prefix) bool { return Contains(c, s.CIDR) }) {
			return s
		}
		if adopt == nil && p.adoptable(*s, cidrs) {
			adopt = s
		}
	}
	return adopt
}

// make a subnet for the zone, if nothing is in the way. The ENIConfig's name is chosen when it is "".
func (p *planner) make(zone string, cidrs []netip.Prefix, config string) bool {
	for _, s := range p.in.VPC.Subnets {
		if s.Zone == zone && p.stray(s, cidrs) {
			p.refuse(ReasonSubnetDiffers, zone, "subnet %s (%s, %s) lies in the declared CIDRs and is a /%d where spec.provision.subnetPrefixLength is %d: "+
				"set that to %d to adopt it, delete it, or tag it dovetail.dev/pod-network=none to leave it alone", s.ID, s.CIDR, zone, s.CIDR.Bits(), p.in.SubnetBits, s.CIDR.Bits())
			return false
		}
	}
	table, refusal := p.tableFor(zone)
	if refusal != nil {
		p.plan.Refusals = append(p.plan.Refusals, *refusal)
		return false
	}
	cidr, ok := p.room(cidrs)
	if !ok {
		p.refuse(ReasonNoRoom, zone, "zone %s: no /%d is left in %v: add a CIDR to spec.provision.cidrs, or let subnets be smaller by a larger subnetPrefixLength", zone, p.in.SubnetBits, cidrs)
		return false
	}
	p.taken = append(p.taken, cidr)
	p.act(Action{Kind: CreateSubnet, Zone: zone, CIDR: cidr, SubnetCIDR: cidr})
	p.furnish(Subnet{Zone: zone, CIDR: cidr}, table)
	p.configure(Subnet{Zone: zone, CIDR: cidr}, config)
	return true
}

// room is the lowest free block of the subnets' size: in the first CIDR that has one.
func (p *planner) room(cidrs []netip.Prefix) (netip.Prefix, bool) {
	for _, cidr := range cidrs {
		if cidr.Bits() > p.in.SubnetBits {
			continue
		}
		for i := range 1 << (p.in.SubnetBits - cidr.Bits()) {
			candidate := Part(cidr, p.in.SubnetBits, i)
			if !slices.ContainsFunc(p.taken, candidate.Overlaps) {
				return candidate, true
			}
		}
	}
	return netip.Prefix{}, false
}

// Part returns the block of a prefix length with this number in a CIDR.
func Part(cidr netip.Prefix, bits, number int) netip.Prefix {
	a := cidr.Addr().As4()
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	n += uint32(number) << (32 - bits) //nolint:gosec // at most 2^12 blocks
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), bits)
}

// serve is for a subnet that exists.
func (p *planner) serve(s Subnet, config string) {
	if p.own(s) {
		table, refusal := p.tableFor(s.Zone)
		if _, explicit := p.tables[s.ID]; explicit && refusal != nil {
			table = p.tables[s.ID] // what a new one would get does not bear on it
		} else if refusal != nil {
			p.plan.Refusals = append(p.plan.Refusals, *refusal)
			table = p.mainTable // as it is
		}
		p.furnish(s, table)
		if s.CIDR.Bits() != p.in.SubnetBits {
			p.note("subnet %s (%s) stays a /%d: subnets cannot be resized", s.ID, s.Zone, s.CIDR.Bits())
		}
	}
	p.configure(s, config)
}

// furnish a subnet of the network's own with its route table and its reservations.
func (p *planner) furnish(s Subnet, table string) {
	for _, cidr := range p.reserved(s) {
		p.act(Action{Kind: CreateReservation, Zone: s.Zone, SubnetCIDR: s.CIDR, CIDR: cidr})
	}
	switch has, explicit := p.tables[s.ID]; {
	case !explicit && table != p.mainTable:
		p.act(Action{Kind: AssociateRouteTable, Zone: s.Zone, SubnetCIDR: s.CIDR, RouteTable: table})
	case explicit && has != table:
		p.note("subnet %s (%s) keeps route table %s, where a new one would get %s: the routes of running pods are not changed for them", s.ID, s.Zone, has, table)
	}
}

// reserved returns the reservations that a subnet lacks: the upper half and the quarter below it. The first quarter is left to
// single addresses.
func (p *planner) reserved(s Subnet) (missing []netip.Prefix) {
	bits := s.CIDR.Bits()
	if !p.in.ReservePrefixes || bits > smallestReserved {
		return nil
	}
	for _, cidr := range []netip.Prefix{Part(s.CIDR, bits+1, 1), Part(s.CIDR, bits+2, 1)} {
		i := slices.IndexFunc(s.Reservations, func(r Reservation) bool { return r.CIDR.Overlaps(cidr) })
		switch {
		case i < 0:
			missing = append(missing, cidr)
		case s.Reservations[i].Explicit || !Contains(s.Reservations[i].CIDR, cidr):
			p.refuse(ReasonReservationOverlaps, s.Zone, "subnet %s (%s): CIDR reservation %s (%s) overlaps %s, which is to be kept for prefixes: delete it (aws ec2 delete-subnet-cidr-reservation "+
				"--subnet-cidr-reservation-id %s), or set spec.provision.reservePrefixes to false", s.ID, s.Zone, s.Reservations[i].ID, s.Reservations[i].CIDR, cidr, s.Reservations[i].ID)
			return nil
		}
	}
	return missing
}

// tableFor returns the route table of new subnets in the zone.
func (p *planner) tableFor(zone string) (string, *Refusal) {
	if p.in.RouteTables != nil {
		return p.listedTable(zone)
	}
	found, from := "", ""
	for _, s := range p.in.NodeSubnets {
		if s.Zone != zone {
			continue
		}
		table, explicit := p.tables[s.ID]
		if !explicit {
			table = p.mainTable
		}
		if found != "" && table != found {
			return "", refusal(ReasonRouteTableAmbiguous, zone, "zone %s: node subnets %s and %s have different route tables (%s, %s): "+
				"set spec.provision.routeTables to Listed and name one in routeTableIDs", zone, from, s.ID, found, table)
		}
		found, from = table, s.ID
	}
	return found, nil
}

func (p *planner) listedTable(zone string) (string, *Refusal) {
	table, ok := p.in.RouteTables[zone]
	if !ok {
		table, ok = p.in.RouteTables["*"]
	}
	if !ok {
		return "", refusal(ReasonRouteTableNotListed, zone, "spec.provision.routeTableIDs has no route table for zone %s: add it, or one for *", zone)
	}
	if !slices.ContainsFunc(p.in.VPC.RouteTables, func(t RouteTable) bool { return t.ID == table }) {
		return "", refusal(ReasonRouteTableNotFound, zone, "zone %s: %s has no route table %s: correct spec.provision.routeTableIDs", zone, p.in.VPC.ID, table)
	}
	return table, nil
}
