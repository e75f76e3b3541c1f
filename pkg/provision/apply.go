// SPDX-License-Identifier: Apache-2.0

package provision

import "slices"

// Apply brings an action's effect into the input: what EC2 answered is known before its next Describe shows it. The id is the one of what
// was made; ENIConfigs have none.
func (in *Input) Apply(a Action, id string) {
	switch a.Kind {
	case AssociateCIDR:
		in.VPC.Blocks = append(in.VPC.Blocks, Block{ID: id, CIDR: a.CIDR, State: Associating})
	case CreateSubnet:
		in.VPC.Subnets = append(in.VPC.Subnets, Subnet{ID: id, Zone: a.Zone, CIDR: a.CIDR, Cluster: in.Cluster, PodNetwork: in.PodNetwork})
	case CreateReservation:
		if s := in.Subnet(a); s != nil {
			s.Reservations = append(s.Reservations, Reservation{ID: id, CIDR: a.CIDR, Own: true})
		}
	case AssociateRouteTable:
		i := slices.IndexFunc(in.VPC.RouteTables, func(t RouteTable) bool { return t.ID == a.RouteTable })
		if s := in.Subnet(a); s != nil && i >= 0 {
			in.VPC.RouteTables[i].Subnets = append(in.VPC.RouteTables[i].Subnets, s.ID)
		}
	case CreateENIConfig, UpdateENIConfig:
		config := a.ENIConfig
		if s := in.Subnet(a); s != nil {
			config.Subnet = s.ID
		}
		in.ENIConfigs = append(slices.DeleteFunc(in.ENIConfigs, func(c ENIConfig) bool { return c.Name == config.Name }), config)
	}
}

// Subnet returns the one that an action is about, nil before it is created.
func (in *Input) Subnet(a Action) *Subnet {
	for i := range in.VPC.Subnets {
		if in.VPC.Subnets[i].CIDR == a.SubnetCIDR {
			return &in.VPC.Subnets[i]
		}
	}
	return nil
}

// Ready tells whether EC2 takes the action now: a subnet needs the block that it is in.
func (in *Input) Ready(a Action) bool {
	return a.Kind != CreateSubnet || slices.ContainsFunc(in.VPC.Blocks, func(b Block) bool { return b.State == Associated && Contains(b.CIDR, a.CIDR) })
}
