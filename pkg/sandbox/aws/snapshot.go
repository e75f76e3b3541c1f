// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Snapshot is what a packet network needs to know of the simulated account: a deep copy, each list in
// order of creation. It is level-triggered: apply the difference to what is there, in any order.
type Snapshot struct {
	Generation       uint64 // grows with every change
	VPCs             []VPC
	Subnets          []Subnet
	RouteTables      []RouteTable
	InternetGateways []InternetGateway
	NATGateways      []NATGateway
	Peerings         []Peering
	SecurityGroups   []SecurityGroup
	Instances        []Instance
	Interfaces       []Interface
}

// VPC lists the CIDR blocks in state associated; the first is the one it was created with.
type VPC struct {
	ID    string
	CIDRs []netip.Prefix
}

// Subnet is in one zone. RouteTableID is the effective table: the associated one, else the VPC's main table.
// The router answers at the second address of the CIDR.
type Subnet struct {
	ID, VPCID, Zone string
	CIDR            netip.Prefix
	RouteTableID    string
}

// Gateway returns the implicit router's address in the subnet.
func (s Subnet) Gateway() netip.Addr { return s.CIDR.Masked().Addr().Next() }

// RouteTable of a VPC; the longest prefix wins.
type RouteTable struct {
	ID, VPCID string
	Routes    []Route
}

// Route has the target "local", or the id of an internet gateway, a NAT gateway, an interface, a peering or a transit gateway. A route
// whose target is gone is a blackhole.
type Route struct {
	Destination netip.Prefix
	Target      string
	Blackhole   bool
}

// InternetGateway is attached to one VPC, or to none ("").
type InternetGateway struct{ ID, VPCID string }

// NATGateway translates to PublicIP what reaches PrivateIP, an address of its interface in SubnetID. It
// passes packets in state available only.
type NATGateway struct {
	ID, VPCID, SubnetID, InterfaceID, State string
	PrivateIP, PublicIP                     netip.Addr
}

// Peering joins two VPCs; only active ones are listed.
type Peering struct{ ID, Requester, Accepter string }

// SecurityGroup allows what a rule allows; it is stateful.
type SecurityGroup struct {
	ID, VPCID, Name string
	Ingress, Egress []Rule
}

// Rule has Protocol "-1" (all), "tcp", "udp", "icmp" or a number. FromPort and ToPort are -1 where they do not
// apply. A peer matches when one of CIDRs holds it or its interface is in one of Groups.
type Rule struct {
	Protocol         string
	FromPort, ToPort int32
	CIDRs            []netip.Prefix
	Groups           []string
}

// Instance states are EC2's: pending, running, stopping, stopped, shutting-down, terminated.
type Instance struct {
	ID, Type, State, Zone, SubnetID, VPCID string
	ImageID, ImageName                     string // name as in the EKS catalogue: tells the family and the Kubernetes version
	LaunchTime                             time.Time
	LaunchOrder                            int // 1 for the account's first instance
	PrivateIP                              netip.Addr
	PrivateDNS                             string // ip-10-0-0-12.ec2.internal
	InstanceProfile                        string // name, "" when none
	Hangs                                  bool   // its processes stand still
	UserData                               []byte // as the machine reads it from IMDS: decoded from base64
	MetadataHopLimit                       int    // TTL of the IMDS reply that carries a token
	Tags                                   map[string]string
}

// Interface is an elastic network interface. Its link exists in the guest when Attachment.Status is "attached"
// and the instance is running.
type Interface struct {
	ID, SubnetID, VPCID, Zone string
	Type                      string // "interface", "nat_gateway", "efa", ...
	Description               string
	MAC                       net.HardwareAddr
	Groups                    []string
	Primary                   netip.Addr
	Secondaries               []netip.Addr
	Prefixes                  []netip.Prefix // /28 each
	SourceDestCheck           bool
	Public                    netip.Addr  // of the primary address, by the internet gateway; zero: none
	Attachment                *Attachment // nil when available
	Tags                      map[string]string
}

// Attachment of an interface. Status is "attaching", "attached" or "detaching". InstanceID is "" for an
// interface that an AWS service owns (a NAT gateway, the API server of a cluster).
type Attachment struct {
	ID, InstanceID      string
	Card, DeviceIndex   int32
	Status              string
	DeleteOnTermination bool
}

// Snapshot returns the present state.
func (c *Cloud) Snapshot() Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Snapshot{Generation: c.generation}
	for _, v := range c.vpcs.all() {
		s.VPCs = append(s.VPCs, VPC{ID: v.id, CIDRs: v.associated()})
	}
	for _, sub := range c.subnets.all() {
		s.Subnets = append(s.Subnets, Subnet{
			ID: sub.id, VPCID: sub.vpc.id, Zone: sub.zone, CIDR: sub.space.cidr, RouteTableID: sub.routeTable().id,
		})
	}
	for _, t := range c.routeTables.all() {
		s.RouteTables = append(s.RouteTables, c.snapshotTable(t))
	}
	for _, g := range c.gateways.all() {
		gateway := InternetGateway{ID: g.id}
		if g.vpc != nil {
			gateway.VPCID = g.vpc.id
		}
		s.InternetGateways = append(s.InternetGateways, gateway)
	}
	for _, g := range c.natGateways.all() {
		if g.state == ec2types.NatGatewayStateDeleted {
			continue
		}
		s.NATGateways = append(s.NATGateways, NATGateway{
			ID: g.id, VPCID: g.subnet.vpc.id, SubnetID: g.subnet.id, InterfaceID: g.owner.id, State: string(g.state),
			PrivateIP: g.owner.primary, PublicIP: g.address.public,
		})
	}
	for _, p := range c.peerings.all() {
		if p.state == ec2types.VpcPeeringConnectionStateReasonCodeActive {
			s.Peerings = append(s.Peerings, Peering{ID: p.id, Requester: p.requester.id, Accepter: p.accepter.id})
		}
	}
	for _, g := range c.groups.all() {
		s.SecurityGroups = append(s.SecurityGroups, snapshotGroup(g))
	}
	for _, i := range c.instances.all() {
		s.Instances = append(s.Instances, c.snapshotInstance(i))
	}
	for _, n := range c.interfaces.all() {
		s.Interfaces = append(s.Interfaces, snapshotInterface(n))
	}
	return s
}

func (c *Cloud) snapshotTable(t *routeTable) RouteTable {
	table := RouteTable{ID: t.id, VPCID: t.vpc.id}
	for _, cidr := range t.vpc.associated() {
		table.Routes = append(table.Routes, Route{Destination: cidr, Target: "local"})
	}
	for _, r := range t.routes {
		table.Routes = append(table.Routes, Route{Destination: r.destination, Target: r.target, Blackhole: c.blackhole(t, r.target)})
	}
	return table
}

func snapshotGroup(g *securityGroup) SecurityGroup {
	group := SecurityGroup{ID: g.id, VPCID: g.vpc.id, Name: g.name}
	for _, r := range g.rules {
		rule := Rule{Protocol: r.protocol, FromPort: r.from, ToPort: r.to}
		if r.group != "" {
			rule.Groups = []string{r.group}
		} else {
			rule.CIDRs = []netip.Prefix{r.cidr}
		}
		if r.egress {
			group.Egress = append(group.Egress, rule)
		} else {
			group.Ingress = append(group.Ingress, rule)
		}
	}
	return group
}

func (c *Cloud) snapshotInstance(i *instance) Instance {
	instance := Instance{
		ID: i.id, Type: string(i.info.InstanceType), State: string(i.state), Zone: i.subnet.zone, SubnetID: i.subnet.id, VPCID: i.subnet.vpc.id,
		ImageID: i.image.id, ImageName: i.image.name, LaunchTime: i.launchTime, LaunchOrder: i.order, PrivateIP: i.privateIP,
		PrivateDNS: c.privateDNS(i.privateIP), Hangs: !i.hungSince.IsZero(), UserData: slices.Clone(i.userData), MetadataHopLimit: int(i.metadata.hopLimit), Tags: maps.Clone(i.tags),
	}
	if i.profile != nil {
		instance.InstanceProfile = i.profile.name
	}
	return instance
}

func snapshotInterface(n *networkInterface) Interface {
	i := Interface{
		ID: n.id, SubnetID: n.subnet.id, VPCID: n.subnet.vpc.id, Zone: n.subnet.zone, Type: string(n.kind), Description: n.description,
		MAC: slices.Clone(n.mac), Groups: groupIDs(n.groups), Primary: n.primary, Secondaries: slices.Clone(n.secondaries),
		Prefixes: slices.Clone(n.prefixes), SourceDestCheck: n.sourceDestCheck, Public: n.public, Tags: maps.Clone(n.tags),
	}
	if a := n.attachment; a != nil {
		i.Attachment = &Attachment{
			ID: a.id, Card: a.card, DeviceIndex: a.index, Status: string(a.status), DeleteOnTermination: a.deleteOnTermination,
		}
		if a.instance != nil {
			i.Attachment.InstanceID = a.instance.id
		}
	}
	return i
}
