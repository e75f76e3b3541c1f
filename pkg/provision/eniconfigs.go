// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
)

// maxName is the length of a label's value: nodes name their ENIConfig in one.
const maxName = 63

func (p *planner) ours(c ENIConfig) bool { return c.PodNetwork == p.in.PodNetwork }

// configure the ENIConfig of a subnet: of this name, or the one that names the subnet, or a new one.
func (p *planner) configure(s Subnet, name string) {
	served := PodSubnet{Subnet: s, Own: p.own(s), RouteTable: p.mainTable}
	if table, explicit := p.tables[s.ID]; explicit {
		served.RouteTable = table
	}
	if name == "" {
		name = p.nameOf(s)
	}
	p.names[name] = true
	existing := p.config(name)
	if s.ID != "" {
		if existing != nil && existing.Subnet == s.ID {
			served.ENIConfig = existing.Name
		}
		p.plan.Subnets = append(p.plan.Subnets, served)
	}
	if existing == nil {
		p.act(Action{Kind: CreateENIConfig, Zone: s.Zone, SubnetCIDR: s.CIDR, ENIConfig: p.wanted(name, s)})
		return
	}
	wanted := p.wanted(existing.Name, s)
	switch {
	case p.ours(*existing) && (existing.Subnet != s.ID || !existing.Controlled || !existing.Selected || !same(existing.SecurityGroups, wanted.SecurityGroups)):
		p.act(Action{Kind: UpdateENIConfig, Zone: s.Zone, SubnetCIDR: s.CIDR, ENIConfig: wanted})
	case !p.ours(*existing) && len(wanted.SecurityGroups) > 0 && !same(existing.SecurityGroups, wanted.SecurityGroups):
		p.refuse(ReasonENIConfigOfSomeoneElse, s.Zone, "ENIConfig %s is not this PodNetwork's and has security groups %v, where spec.provision.securityGroups has %v: change either",
			existing.Name, existing.SecurityGroups, wanted.SecurityGroups)
	}
}

func (p *planner) wanted(name string, s Subnet) ENIConfig {
	return ENIConfig{Name: name, Subnet: s.ID, SecurityGroups: p.in.SecurityGroups, PodNetwork: p.in.PodNetwork, Selected: true, Controlled: true}
}

// nameOf returns the ENIConfig that names the subnet. Without one it is NETWORK-ZONE, then NETWORK-ZONE-2 and so on: the first that is
// free, or was left by a subnet that is gone.
func (p *planner) nameOf(s Subnet) string {
	for _, c := range p.in.ENIConfigs {
		if s.ID != "" && c.Subnet == s.ID && c.Selected {
			return c.Name
		}
	}
	for i := 1; ; i++ {
		suffix := "-" + s.Zone
		if i > 1 {
			suffix += "-" + strconv.Itoa(i)
		}
		network := p.in.PodNetwork
		if len(network)+len(suffix) > maxName {
			sum := sha256.Sum256([]byte(network))
			network = "pods-" + hex.EncodeToString(sum[:4])
		}
		name := network + suffix
		left := p.config(name)
		if !p.names[name] || left != nil && p.ours(*left) && !p.reused[name] && p.subnet(left.Subnet) == nil {
			p.reused[name] = true
			return name
		}
	}
}

// same tells whether two lists of groups are equal but for their order.
func same(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}
