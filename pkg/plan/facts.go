// SPDX-License-Identifier: Apache-2.0

// Package plan tells what a PodNetwork would do to a cluster, before it does: what would break, how many pods each instance type holds
// then, how many addresses today's nodes take of the pod subnets, and what it costs. It is pure: from Facts to a Report. The package
// survey reads the facts.
package plan

import (
	"net/netip"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	appsv1 "k8s.io/api/apps/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

// Facts of a cluster and its VPC. What could not be read is empty here, and in Unread with the reason.
type Facts struct {
	// Network to plan for, and where it is from: FromCluster, FromNobody, or a file's name.
	Network *v1alpha1.PodNetwork
	From    string
	// Others are the PodNetworks that the cluster has besides.
	Others []v1alpha1.PodNetwork

	// Cluster is the API server's address.
	Cluster, Region string
	// ClusterName is what AWS's tags call the cluster, "" where it could not be read.
	ClusterName  string
	Installed    Installed
	IPv6         bool
	ServiceCIDRs []netip.Prefix
	NodePools    []karpv1.NodePool
	NodeClasses  []ec2nodeclass.EC2NodeClass
	ENIConfigs   []eniconfig.ENIConfig
	Nodes        []Node
	// PendingPods have no node.
	PendingPods int
	// Movable pods are on nodes that a pod network can concern, and have other places to go: what runs on each node is not among them.
	Movable []PodKind
	// FargateProfiles of the cluster.
	FargateProfiles []FargateProfile
	// VPCCNI is aws-node, nil without.
	VPCCNI *appsv1.DaemonSet

	// VPC of the nodes, nil where EC2 could not be read.
	VPC *VPC
	// NodeSubnets are the ids of the subnets that nodes are launched in, of all node classes.
	NodeSubnets []string
	// Subnets by id: those of the VPC, and any that ENIConfigs name.
	Subnets map[string]podnetwork.Subnet
	// Snapshots by id of pod subnets and node subnets.
	Snapshots map[string]*podnetwork.Snapshot
	// SecurityGroups: the VPC of each that exists among those that ENIConfigs name.
	SecurityGroups map[string]string

	InstanceTypes []InstanceType
	// PricesFrom says where prices are from, "" without prices.
	PricesFrom string
	Quotas     Quotas
	// ReservedENIs is the controller's setting.
	ReservedENIs int

	Unread []Unread
}

// Values of Facts.From.
const (
	FromCluster = "the cluster"
	// FromNobody: there is no PodNetwork yet, and the plan proposes one.
	FromNobody = "a proposal"
)

// Installed tells which kinds the cluster knows.
type Installed struct {
	PodNetworks bool `json:"podNetworks"`
	ENIConfigs  bool `json:"eniConfigs"`
	Karpenter   bool `json:"karpenter"`
}

// Node of the cluster.
type Node struct {
	Name, Zone, InstanceType string
	// Instance id, "" for a Fargate node.
	Instance string
	// NodePool that launched it, "" for nodes that Karpenter does not own.
	NodePool string
	// PodNetwork that it is on.
	PodNetwork string
	// Singles: it was launched there with single addresses, for want of /28s.
	Singles          bool
	Fargate, Windows bool
	// MaxPods of its kubelet.
	MaxPods int
	// Pods that have an address of their own.
	Pods int
}

// PodKind is pods of one namespace with the same labels.
type PodKind struct {
	Namespace string
	Labels    map[string]string
	Pods      int
}

// FargateProfile says which pods EKS puts on Fargate when they are created.
type FargateProfile struct {
	Name      string
	Subnets   []string
	Selectors []FargateSelector
}

// FargateSelector matches pods of the namespace that have all the labels. In each * stands for any text and ? for one character.
type FargateSelector struct {
	Namespace string
	Labels    map[string]string
}

// VPC of the nodes.
type VPC struct {
	ID string
	// Blocks that are associated, the one that the VPC was created with first.
	Blocks      []netip.Prefix
	RouteTables []RouteTable
	Peerings    []Peering
	// TransitGateways that it is attached to.
	TransitGateways []TransitGateway
	// Provision is the same VPC as the planner of spec.provision sees it.
	Provision provision.VPC
}

// RouteTable of the VPC.
type RouteTable struct {
	ID   string
	Main bool
	// Subnets that are associated with it explicitly. All others have the main table.
	Subnets []string
	// Routes but for the local ones.
	Routes []Route
}

// Route of a table.
type Route struct {
	Destination netip.Prefix
	// PrefixList is the destination instead, by its id: its CIDRs are not known here.
	PrefixList string
	// Target is an id: nat-..., igw-..., tgw-..., pcx-..., eni-....
	Target    string
	Blackhole bool
}

// Peering of the VPC with another.
type Peering struct {
	ID, VPC string
	CIDRs   []netip.Prefix
}

// TransitGateway that the VPC is attached to.
type TransitGateway struct {
	ID, Attachment string
	// Routes of the table that the attachment is associated with, but for those back to the VPC: what leaves the VPC for the gateway
	// goes by these.
	Routes []TransitRoute
	// Announced are the routes to others of the tables that the VPC's own blocks are propagated to: by these others reach it.
	Announced []TransitRoute
}

// TransitRoute of a transit gateway.
type TransitRoute struct {
	// Table of the transit gateway that has the route.
	Table       string
	Destination netip.Prefix
	// To is what is attached there: vpc-..., vpn-..., a gateway's id; "" for a blackhole.
	To string
	// Propagated by what is attached, and not written by hand.
	Propagated bool
}

// InstanceType as EC2 describes it.
type InstanceType struct {
	Info ec2types.InstanceTypeInfo
	// Zones that offer it; nil where that is not known.
	Zones []string
	// Price on demand, in USD an hour; 0 where it is not known.
	Price float64
}

// Quotas of the account in the Region.
type Quotas struct {
	ENIs, BlocksPerVPC Quota
}

// Quota and what of it is used.
type Quota struct {
	Limit int
	// Assumed: the limit is AWS's default, for want of the right to read the account's.
	Assumed bool
	// Used now, -1 where that is not known.
	Used int
}

// AWS's defaults, from "Amazon VPC quotas" in the VPC user guide.
const (
	DefaultENIs         = 5000
	DefaultBlocksPerVPC = 5
)

// Unread is something that could not be read, or could be read in part only.
type Unread struct {
	What string `json:"what"`
	Why  string `json:"why"`
	// Denied is the action that was not permitted: an AWS action (ec2:DescribeVpcs), or a verb with a kind of the cluster (list nodes).
	// It is "" where something else was in the way.
	Denied string `json:"denied,omitempty"`
}
