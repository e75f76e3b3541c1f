// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/provision"
)

// VPC of a cluster, as far as it decides which addresses there are: the content of vpc.yaml.
type VPC struct {
	ID string `json:"id,omitempty"`
	// CIDRs that are associated, the one that it was created with first.
	CIDRs          []netip.Prefix  `json:"cidrs"`
	Subnets        []Subnet        `json:"subnets"`
	RouteTables    []RouteTable    `json:"routeTables,omitempty"`
	SecurityGroups []SecurityGroup `json:"securityGroups,omitempty"`
	Peerings       []Peering       `json:"peerings,omitempty"`
	// Nodes by name: where each has its addresses.
	Nodes map[string]NodeAddresses `json:"nodes,omitempty"`
}

// Subnet and what of it is taken.
type Subnet struct {
	ID   string            `json:"id"`
	Zone string            `json:"zone"`
	CIDR netip.Prefix      `json:"cidr"`
	Tags map[string]string `json:"tags,omitempty"`
	// PublicAddresses: instances get one at launch.
	PublicAddresses bool `json:"publicAddresses,omitempty"`
	// Taken by others than nodes, in as few CIDRs as say it. AWS's own five are not among them.
	Taken        []netip.Prefix `json:"taken,omitempty"`
	Reservations []Reservation  `json:"reservations,omitempty"`
}

// Reservation is a CIDR reservation.
type Reservation struct {
	CIDR netip.Prefix `json:"cidr"`
	// Type is prefix or explicit.
	Type string `json:"type"`
}

// RouteTable with the routes that keep CIDRs from being associated. Local ones are not among them.
type RouteTable struct {
	ID      string   `json:"id"`
	Main    bool     `json:"main,omitempty"`
	Subnets []string `json:"subnets,omitempty"`
	Routes  []Route  `json:"routes,omitempty"`
}

// Route of a table.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Target      string       `json:"target"`
}

// SecurityGroup by what selects it. Its rules do not matter: hollow nodes send nothing.
type SecurityGroup struct {
	ID   string            `json:"id"`
	Name string            `json:"name"`
	Tags map[string]string `json:"tags,omitempty"`
}

// Peering with another VPC.
type Peering struct {
	ID    string         `json:"id"`
	CIDRs []netip.Prefix `json:"cidrs"`
}

// NodeAddresses of a node.
type NodeAddresses struct {
	// Subnet of the instance's first address.
	Subnet string `json:"subnet,omitempty"`
	// Holds besides that one.
	Holds []Holding `json:"holds,omitempty"`
}

// Holding of a node in a subnet.
type Holding struct {
	Subnet string `json:"subnet"`
	// Addresses, and /28 prefixes.
	Addresses int `json:"addresses,omitempty"`
	Prefixes  int `json:"prefixes,omitempty"`
}

// check what the stage could not build.
func (v *VPC) check() error {
	if len(v.CIDRs) == 0 || len(v.Subnets) == 0 {
		return errors.New("the VPC has no CIDRs or no subnets: say its shape in vpc.yaml")
	}
	known := map[string]*Subnet{}
	for i := range v.Subnets {
		s := &v.Subnets[i]
		switch {
		case s.ID == "" || s.Zone == "":
			return fmt.Errorf("the VPC's subnet %s needs an id and a zone", s.CIDR)
		case known[s.ID] != nil:
			return fmt.Errorf("the VPC has two subnets %s", s.ID)
		case !slices.ContainsFunc(v.CIDRs, func(c netip.Prefix) bool { return provision.Contains(c, s.CIDR) }):
			return fmt.Errorf("subnet %s: its CIDR %s is in none of the VPC's, %v", s.ID, s.CIDR, v.CIDRs)
		}
		known[s.ID] = s
		if err := s.check(); err != nil {
			return err
		}
	}
	for _, table := range v.RouteTables {
		for _, id := range table.Subnets {
			if known[id] == nil {
				return fmt.Errorf("route table %s is associated with subnet %s, which is not among the VPC's", table.ID, id)
			}
		}
	}
	for node, has := range v.Nodes {
		for _, id := range append(lo.Map(has.Holds, func(h Holding, _ int) string { return h.Subnet }), has.Subnet) {
			if id != "" && known[id] == nil {
				return fmt.Errorf("node %s has addresses of subnet %s, which is not among the VPC's", node, id)
			}
		}
	}
	if zones := v.zones(); len(zones) > 6 {
		return fmt.Errorf("the VPC's subnets are in %d zones: a rehearsal knows six", len(zones))
	}
	return nil
}

func (s *Subnet) check() error {
	for _, taken := range s.Taken {
		if !provision.Contains(s.CIDR, taken) {
			return fmt.Errorf("subnet %s: taken %s is not in %s", s.ID, taken, s.CIDR)
		}
	}
	for _, r := range s.Reservations {
		if !provision.Contains(s.CIDR, r.CIDR) || r.Type != "prefix" && r.Type != "explicit" {
			return fmt.Errorf("subnet %s: its reservation needs a CIDR in %s, not %s, and the type prefix or explicit, not %q", s.ID, s.CIDR, r.CIDR, r.Type)
		}
	}
	return nil
}

// zones of the subnets, sorted.
func (v *VPC) zones() []string {
	zones := lo.Uniq(lo.Map(v.Subnets, func(s Subnet, _ int) string { return s.Zone }))
	slices.Sort(zones)
	return zones
}
