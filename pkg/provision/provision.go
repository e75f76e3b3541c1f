// SPDX-License-Identifier: Apache-2.0

// Package provision plans how a VPC gets the pod subnets that a PodNetwork declares: from the VPC's shape and the declaration to an
// ordered list of actions, or to the reasons why there are none. It knows no API, clock or network: the same input gives the same
// plan, and a plan that was carried out leaves an empty one.
package provision

import (
	"net/netip"
)

// Declaration is a PodNetwork's spec.provision, with what else of the PodNetwork bears on it.
type Declaration struct {
	Cluster, PodNetwork string
	CIDRs               []netip.Prefix
	// SubnetBits is the prefix length of new subnets.
	SubnetBits int
	// RouteTables by zone, "*" for all others; nil: each subnet takes that of its zone's node subnet.
	RouteTables map[string]string
	// SecurityGroups of the ENIConfigs; none: those of the node.
	SecurityGroups []string
	// ReservePrefixes in new subnets.
	ReservePrefixes bool
	// PerZone: ENIConfigs are named after their zone, so that each zone has one pod subnet. Otherwise it has one in each CIDR.
	PerZone bool
}

// NodeSubnet is where the nodes of the network's node classes are launched.
type NodeSubnet struct{ ID, Zone string }

// Block is an IPv4 CIDR block of the VPC. States are EC2's; the first block is the one that the VPC was created with.
type Block struct {
	ID    string
	CIDR  netip.Prefix
	State string
	// Message of a state that is a failure.
	Message string
}

// States of a Block.
const (
	Associating    = "associating"
	Associated     = "associated"
	Disassociating = "disassociating"
	Disassociated  = "disassociated"
	Failing        = "failing"
	Failed         = "failed"
)

// Subnet of the VPC.
type Subnet struct {
	ID, Zone string
	CIDR     netip.Prefix
	// Cluster and PodNetwork are the values of its tags of these names; "" without.
	Cluster, PodNetwork string
	// Reservations are its CIDR reservations. They matter in the subnets that are this network's own.
	Reservations []Reservation
}

// Reservation of a part of a subnet.
type Reservation struct {
	ID   string
	CIDR netip.Prefix
	// Explicit ones give addresses only to those who name them; the others are for prefixes.
	Explicit bool
	// Own: made for this network, by its tags.
	Own bool
}

// RouteTable of the VPC.
type RouteTable struct {
	ID   string
	Main bool
	// Subnets that are associated with it explicitly. All others have the main table.
	Subnets []string
	// Destinations of its routes, the local ones left out.
	Destinations []netip.Prefix
}

// VPC is what the account has.
type VPC struct {
	ID          string
	Blocks      []Block
	Subnets     []Subnet
	RouteTables []RouteTable
}

// ENIConfig of the cluster.
type ENIConfig struct {
	Name, Subnet   string
	SecurityGroups []string
	// PodNetwork that it was written for; "" for one that somebody else wrote.
	PodNetwork string
	// Selected by spec.eniConfigs.selector: the others serve other networks.
	Selected bool
	// Controlled by that PodNetwork: it goes when the PodNetwork goes.
	Controlled bool
}

// Input of a plan.
type Input struct {
	Declaration
	NodeSubnets []NodeSubnet
	VPC         VPC
	ENIConfigs  []ENIConfig
}

// Kind of an Action.
type Kind string

// Kinds, in the order in which a plan has them: by the time that a new subnet is used, all of EC2 knows it, and an ENIConfig names
// a subnet that is complete.
const (
	AssociateCIDR       Kind = "AssociateCIDR"
	CreateSubnet        Kind = "CreateSubnet"
	CreateReservation   Kind = "CreateReservation"
	AssociateRouteTable Kind = "AssociateRouteTable"
	CreateENIConfig     Kind = "CreateENIConfig"
	UpdateENIConfig     Kind = "UpdateENIConfig"
)

// Action changes one thing.
type Action struct {
	Kind Kind
	// CIDR to associate, of the subnet to create, or to reserve.
	CIDR netip.Prefix
	// Zone, and SubnetCIDR: subnets are named by it, because those that are yet to be created have no id.
	Zone       string
	SubnetCIDR netip.Prefix
	RouteTable string
	// ENIConfig with the name, groups and owner that it is to have; its subnet is the one of SubnetCIDR.
	ENIConfig ENIConfig
}

// Refusal is a thing that only a person can mend.
type Refusal struct {
	Reason string
	// Zone that gets no pod subnet for it; "" when nothing at all is done.
	Zone    string
	Message string
}

// Reasons of refusals.
const (
	ReasonCIDRRestricted         = "CIDRRestricted"
	ReasonCIDROverlaps           = "CIDROverlaps"
	ReasonCIDRRouted             = "CIDRRouted"
	ReasonCIDRFailed             = "CIDRAssociationFailed"
	ReasonTooManyCIDRs           = "TooManyCIDRs"
	ReasonNoRoom                 = "NoRoomForSubnet"
	ReasonSubnetDiffers          = "SubnetDiffers"
	ReasonRouteTableNotFound     = "RouteTableNotFound"
	ReasonRouteTableNotListed    = "RouteTableNotListed"
	ReasonRouteTableAmbiguous    = "RouteTableAmbiguous"
	ReasonReservationOverlaps    = "ReservationOverlaps"
	ReasonENIConfigOfSomeoneElse = "ENIConfigOfSomeoneElse"
)

// PodSubnet of a zone, as it is or is going to be.
type PodSubnet struct {
	Subnet
	// Own: made for this network, by its tags. Others are adopted.
	Own bool
	// RouteTable that routes for it, and ENIConfig that names it; "" before there is one.
	RouteTable, ENIConfig string
}

// Plan for a VPC.
type Plan struct {
	Actions  []Action
	Refusals []Refusal
	// Waiting says what EC2 has not finished.
	Waiting []string
	// Notes say what differs from the declaration and is left as it is.
	Notes []string
	// Subnets that serve the network already.
	Subnets []PodSubnet
}

// Complete tells that there is nothing to do, to wait for or to mend.
func (p Plan) Complete() bool { return len(p.Actions)+len(p.Refusals)+len(p.Waiting) == 0 }
