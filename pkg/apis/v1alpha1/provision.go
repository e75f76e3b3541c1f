// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Tags on what spec.provision made in the VPC: the names of the cluster and of the PodNetwork. What does not bear both is never changed or
// deleted. A subnet whose TagPodNetwork has any other value is left to whoever wrote that.
const (
	TagCluster    = Group + "/cluster"
	TagPodNetwork = Group + "/pod-network"
)

// FinalizerProvision keeps a PodNetwork until what it made is given up or deleted, as spec.provision.deletionPolicy says.
const FinalizerProvision = Group + "/provision"

// AnnotationProvision on ENIConfigs that were written for spec.provision names the PodNetwork. It is how a PodNetwork knows them again
// after it was deleted and created anew.
const AnnotationProvision = Group + "/provision"

// Provision declares the pod subnets that the VPC is to have: one in each zone of the node classes' node subnets. Dovetail makes what is
// missing, adopts what exists and fits, and refuses with the difference what does not. A larger declaration adds; a smaller one
// removes nothing.
//
// +kubebuilder:validation:XValidation:message="each CIDR must have room for a subnet: subnetPrefixLength is shorter than a CIDR's prefix length",rule="!has(self.subnetPrefixLength) || self.cidrs.all(c, !isCIDR(c) || cidr(c).prefixLength() <= self.subnetPrefixLength)"
// +kubebuilder:validation:XValidation:message="routeTableIDs are for routeTables Listed, which needs them",rule="(has(self.routeTables) && self.routeTables == 'Listed') == (has(self.routeTableIDs) && size(self.routeTableIDs) > 0)"
type Provision struct {
	// CIDRs of the pod subnets, in the order of their use. The VPC gets those that it does not have; one that lies within a block of the
	// VPC is used as it is. Amazon EKS recommends 100.64.0.0/10.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:items:MaxLength=18
	// +kubebuilder:validation:items:XValidation:message="must be an IPv4 CIDR of /16 to /28 such as 100.64.0.0/16, with no bits set behind its prefix",rule="isCIDR(self) && cidr(self).ip().family() == 4 && cidr(self) == cidr(self).masked() && cidr(self).prefixLength() >= 16 && cidr(self).prefixLength() <= 28"
	// +listType=set
	CIDRs []string `json:"cidrs"`

	// SubnetPrefixLength of new pod subnets: 19 gives 8,187 addresses. Subnets cannot be resized: a change is for later ones.
	// +kubebuilder:default=19
	// +kubebuilder:validation:Minimum=16
	// +kubebuilder:validation:Maximum=28
	// +optional
	SubnetPrefixLength int32 `json:"subnetPrefixLength,omitempty"`

	// RouteTables NodeSubnet gives each new pod subnet the route table of its zone's node subnet; Listed, the one in routeTableIDs.
	// +kubebuilder:default=NodeSubnet
	// +optional
	RouteTables RouteTables `json:"routeTables,omitempty"`

	// RouteTableIDs by zone, for routeTables Listed. The key * stands for all other zones.
	// +kubebuilder:validation:MaxProperties=20
	// +kubebuilder:validation:XValidation:message="must map zones, or *, to route table ids such as rtb-0123456789abcdef0",rule="self.all(zone, self[zone].matches('^rtb-[0-9a-f]{8,17}$'))"
	// +optional
	RouteTableIDs map[string]RouteTableID `json:"routeTableIDs,omitempty"`

	// SecurityGroups of the ENIConfigs. Without any, pods have those of their node, which are the node class's.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=20
	// +kubebuilder:validation:items:Pattern="^sg-[0-9a-f]{8,17}$"
	// +listType=set
	// +optional
	SecurityGroups []string `json:"securityGroups,omitempty"`

	// ReservePrefixes keeps three quarters of each new pod subnet for /28 prefixes, by CIDR reservations: single addresses, which ENIs have
	// of their own, cannot fragment them. Not in subnets smaller than a /26, and not where prefixDelegation is Disabled.
	// +kubebuilder:default=true
	// +optional
	ReservePrefixes *bool `json:"reservePrefixes,omitempty"`

	// DeletionPolicy says what becomes of what was made when the PodNetwork is deleted: Retain leaves it, ENIConfigs included; Delete
	// deletes it as soon as nothing uses it. What was adopted stays in either case.
	// +kubebuilder:default=Retain
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// RouteTables is NodeSubnet or Listed.
//
// +kubebuilder:validation:Enum=NodeSubnet;Listed
type RouteTables string

// Values of RouteTables.
const (
	RouteTablesNodeSubnet RouteTables = "NodeSubnet"
	RouteTablesListed     RouteTables = "Listed"
)

// RouteTableID is an id such as rtb-0123456789abcdef0.
//
// +kubebuilder:validation:MaxLength=21
type RouteTableID string

// DeletionPolicy is Retain or Delete.
//
// +kubebuilder:validation:Enum=Retain;Delete
type DeletionPolicy string

// Values of DeletionPolicy.
const (
	DeletionRetain DeletionPolicy = "Retain"
	DeletionDelete DeletionPolicy = "Delete"
)

// ProvisionStatus lists what the VPC has of what spec.provision asks for.
type ProvisionStatus struct {
	// VPC of the node subnets.
	VPC string `json:"vpc"`
	// +optional
	CIDRs []ProvisionedCIDR `json:"cidrs,omitempty"`
	// +optional
	Subnets []ProvisionedSubnet `json:"subnets,omitempty"`
}

// ProvisionedCIDR is a declared CIDR that the VPC has, or is about to get.
type ProvisionedCIDR struct {
	CIDR string `json:"cidr"`
	// State of its association, as EC2 names it; empty before EC2 was asked.
	// +optional
	State string `json:"state,omitempty"`
	// Made tells that Dovetail associated it. It is written before EC2 is asked: associations bear no tags.
	// +kubebuilder:default=false
	// +optional
	Made bool `json:"made"`
}

// ProvisionedSubnet is a pod subnet.
type ProvisionedSubnet struct {
	Zone   string `json:"zone"`
	Subnet string `json:"subnet"`
	CIDR   string `json:"cidr"`
	// RouteTable that routes for it.
	// +optional
	RouteTable string `json:"routeTable,omitempty"`
	// ReservedCIDRs are its reservations of type prefix.
	// +optional
	ReservedCIDRs []string `json:"reservedCIDRs,omitempty"`
	// +optional
	ENIConfig string `json:"eniConfig,omitempty"`
	// Made tells that Dovetail created it; others were there and are adopted.
	// +kubebuilder:default=false
	// +optional
	Made bool `json:"made"`
}
