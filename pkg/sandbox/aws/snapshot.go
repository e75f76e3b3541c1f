// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net"
	"net/netip"
	"time"
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

// Route has the target "local", or the id of an internet gateway, a NAT gateway or an interface. A route
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

// Instance states are EC2's: pending, running, shutting-down, terminated.
type Instance struct {
	ID, Type, State, Zone, SubnetID, VPCID, ImageID string
	LaunchTime                                      time.Time
	LaunchOrder                                     int // 1 for the account's first instance
	PrivateIP                                       netip.Addr
	PrivateDNS                                      string // ip-10-0-0-12.ec2.internal
	InstanceProfile                                 string // name, "" when none
	UserData                                        []byte // as the machine reads it from IMDS: decoded from base64
	Tags                                            map[string]string
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
