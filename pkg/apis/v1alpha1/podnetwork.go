// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/awslabs/operatorpkg/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PodNetwork says which EC2NodeClasses launch nodes whose pods live in other subnets, which ENIConfigs name those
// subnets, and how addresses are given. Everything has a default: an empty spec covers every EC2NodeClass and uses the
// ENIConfigs named after the zones.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=podnet
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Agent",type=string,priority=1,JSONPath=`.spec.agent`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes.total`
// +kubebuilder:printcolumn:name="Current",type=integer,JSONPath=`.status.nodes.current`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PodNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +kubebuilder:default={}
	Spec   PodNetworkSpec   `json:"spec,omitempty"`
	Status PodNetworkStatus `json:"status,omitempty"`
}

// PodNetworkList is a list of PodNetworks.
//
// +kubebuilder:object:root=true
type PodNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PodNetwork `json:"items"`
}

// PodNetworkSpec is what a user declares.
//
// +kubebuilder:validation:XValidation:message="spec.addressing.allocation Static and agent VPCCNI exclude each other: aws-node allocates dynamically",rule="!(has(self.agent) && self.agent == 'VPCCNI' && has(self.addressing) && has(self.addressing.allocation) && self.addressing.allocation == 'Static')"
type PodNetworkSpec struct {
	// NodeClassSelector picks EC2NodeClasses by label. Empty picks all.
	// +optional
	NodeClassSelector metav1.LabelSelector `json:"nodeClassSelector,omitempty"`

	// Agent says who serves addresses on the nodes: Dovetail's agent, or the Amazon VPC CNI (aws-node), which stays.
	// +kubebuilder:default=Dovetail
	// +optional
	Agent AgentKind `json:"agent,omitempty"`

	// +kubebuilder:default={}
	// +optional
	ENIConfigs ENIConfigs `json:"eniConfigs,omitempty"`

	// +kubebuilder:default={}
	// +optional
	Addressing Addressing `json:"addressing,omitempty"`

	// +kubebuilder:default={}
	// +optional
	MaxPods MaxPods `json:"maxPods,omitempty"`

	// InstanceTypes says whether one launch may mix instance types whose pod capacity differs.
	// +kubebuilder:default=Homogeneous
	// +optional
	InstanceTypes InstanceTypes `json:"instanceTypes,omitempty"`

	// +kubebuilder:default={}
	// +optional
	SNAT SNAT `json:"snat,omitempty"`

	// Provision lets Dovetail extend the VPC: associate CIDR blocks, create pod subnets in them and write the ENIConfigs. Without
	// it, subnets and ENIConfigs are somebody else's to make.
	// +optional
	Provision *Provision `json:"provision,omitempty"`
}

// AgentKind names the program that serves addresses on a node.
//
// +kubebuilder:validation:Enum=Dovetail;VPCCNI
type AgentKind string

// Values of AgentKind.
const (
	AgentDovetail AgentKind = "Dovetail"
	AgentVPCCNI   AgentKind = "VPCCNI"
)

// ENIConfigs says which ENIConfig serves a node.
type ENIConfigs struct {
	// NodeLabel is the key of the node label whose value names the node's ENIConfig (ENI_CONFIG_LABEL_DEF of aws-node):
	// the zone by default, k8s.amazonaws.com/eniConfig for several ENIConfigs in a zone.
	// +kubebuilder:default="topology.kubernetes.io/zone"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=316
	// +kubebuilder:validation:XValidation:message="must be a label key such as topology.kubernetes.io/zone",rule="self.matches('^([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?/)?[a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?$')"
	// +optional
	NodeLabel string `json:"nodeLabel,omitempty"`

	// Selector picks the ENIConfigs that belong to this pod network by label. Empty picks all.
	// +optional
	Selector metav1.LabelSelector `json:"selector,omitempty"`
}

// Addressing says how pods get addresses.
//
// +kubebuilder:validation:XValidation:message="warm.prefixTarget needs prefixDelegation Enabled; use warm.ipTarget",rule="!(has(self.warm) && has(self.warm.prefixTarget) && has(self.prefixDelegation) && self.prefixDelegation == 'Disabled')"
// +kubebuilder:validation:XValidation:message="warm targets are for allocation Dynamic: with Static a node's addresses all come with its launch",rule="!(has(self.warm) && has(self.allocation) && self.allocation == 'Static')"
type Addressing struct {
	// PrefixDelegation gives a /28 in each address slot of an ENI. Enabled falls back to single addresses where no /28 is
	// left.
	// +kubebuilder:default=Enabled
	// +optional
	PrefixDelegation Toggle `json:"prefixDelegation,omitempty"`

	// Allocation Dynamic lets the agent attach ENIs and add and return prefixes while the node runs; Static gives all that
	// a node can need with its launch.
	// +kubebuilder:default=Dynamic
	// +optional
	Allocation Allocation `json:"allocation,omitempty"`

	// Warm sets what Dynamic allocation keeps ready. Without it, one prefix (one ENI's addresses without prefixes).
	// +optional
	Warm *Warm `json:"warm,omitempty"`

	// Cooldown is how long a released address rests before it is given again.
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:XValidation:message="must be between 0s and 1h",rule="duration(self) >= duration('0s') && duration(self) <= duration('1h')"
	// +optional
	Cooldown *metav1.Duration `json:"cooldown,omitempty"` // a pointer: 0s is a value of its own
}

// Rest is the cooldown, by default what the API server writes.
func (a *Addressing) Rest() time.Duration {
	if a.Cooldown == nil {
		return 30 * time.Second
	}
	return a.Cooldown.Duration
}

// Toggle is Enabled or Disabled.
//
// +kubebuilder:validation:Enum=Enabled;Disabled
type Toggle string

// Values of Toggle.
const (
	Enabled  Toggle = "Enabled"
	Disabled Toggle = "Disabled"
)

// Allocation is Dynamic or Static.
//
// +kubebuilder:validation:Enum=Dynamic;Static
type Allocation string

// Values of Allocation.
const (
	AllocationDynamic Allocation = "Dynamic"
	AllocationStatic  Allocation = "Static"
)

// Warm holds the targets of Dynamic allocation. Each has the meaning of aws-node's variable of that name; ipTarget and
// minimumIPTarget win over prefixTarget and eniTarget.
type Warm struct {
	// PrefixTarget is the number of free /28s' worth of addresses to keep (WARM_PREFIX_TARGET).
	// +kubebuilder:validation:Minimum=0
	// +optional
	PrefixTarget *int32 `json:"prefixTarget,omitempty"`
	// IPTarget is the number of free addresses to keep (WARM_IP_TARGET).
	// +kubebuilder:validation:Minimum=0
	// +optional
	IPTarget *int32 `json:"ipTarget,omitempty"`
	// MinimumIPTarget is the number of addresses to hold in all, used or not (MINIMUM_IP_TARGET).
	// +kubebuilder:validation:Minimum=0
	// +optional
	MinimumIPTarget *int32 `json:"minimumIPTarget,omitempty"`
	// ENITarget is the number of ENIs' worth of free addresses to keep (WARM_ENI_TARGET).
	// +kubebuilder:validation:Minimum=0
	// +optional
	ENITarget *int32 `json:"eniTarget,omitempty"`
}

// MaxPods bounds a node's pods. The instance type's addresses are always the first bound.
type MaxPods struct {
	// Policy Recommended caps at 110 (up to 30 vCPU) or 250, as Amazon EKS recommends; Maximum does not cap.
	// +kubebuilder:default=Recommended
	// +optional
	Policy MaxPodsPolicy `json:"policy,omitempty"`
	// Limit lowers the result further.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Limit *int32 `json:"limit,omitempty"`
}

// MaxPodsPolicy is Recommended or Maximum.
//
// +kubebuilder:validation:Enum=Recommended;Maximum
type MaxPodsPolicy string

// Values of MaxPodsPolicy.
const (
	MaxPodsRecommended MaxPodsPolicy = "Recommended"
	MaxPodsMaximum     MaxPodsPolicy = "Maximum"
)

// InstanceTypes is Homogeneous or Flexible.
//
// +kubebuilder:validation:Enum=Homogeneous;Flexible
type InstanceTypes string

// Values of InstanceTypes.
const (
	// Homogeneous launches only instance types with the same geometry and max-pods in one request.
	Homogeneous InstanceTypes = "Homogeneous"
	// Flexible leaves the choice to EC2, as upstream Karpenter does.
	Flexible InstanceTypes = "Flexible"
)

// SNAT says how traffic leaves the VPC.
type SNAT struct {
	// Policy NodeAddress lets traffic to destinations outside the VPC leave with the node's primary address; None leaves
	// the pod's address on it (AWS_VPC_K8S_CNI_EXTERNALSNAT).
	// +kubebuilder:default=NodeAddress
	// +optional
	Policy SNATPolicy `json:"policy,omitempty"`
	// ExcludeCIDRs are destinations treated like the VPC's own: pods keep their address towards them.
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=18
	// +kubebuilder:validation:items:XValidation:message="must be an IPv4 CIDR such as 172.16.0.0/12",rule="isCIDR(self) && cidr(self).ip().family() == 4"
	// +listType=set
	// +optional
	ExcludeCIDRs []string `json:"excludeCIDRs,omitempty"`
	// RandomizePorts draws the translated source port at random.
	// +kubebuilder:default=true
	// +optional
	RandomizePorts *bool `json:"randomizePorts,omitempty"`
}

// SNATPolicy is NodeAddress or None.
//
// +kubebuilder:validation:Enum=NodeAddress;None
type SNATPolicy string

// Values of SNATPolicy.
const (
	SNATNodeAddress SNATPolicy = "NodeAddress"
	SNATNone        SNATPolicy = "None"
)

// Condition types of a PodNetwork.
const (
	// ConditionENIConfigsReady is true when every zone of the node classes has an ENIConfig.
	ConditionENIConfigsReady = "ENIConfigsReady"
	// ConditionSubnetsReady is true when every ENIConfig's subnet exists, in its zone and in the node subnets' VPC.
	ConditionSubnetsReady = "SubnetsReady"
	// ConditionAgentReady is true when each node of the network has one program that gives its pods addresses. While it is false no
	// node is launched or replaced: it would have none, or two that take each other's ENIs for their own.
	ConditionAgentReady = "AgentReady"
	// ConditionCapacityAvailable is true when some pod subnet can take another node.
	ConditionCapacityAvailable = "CapacityAvailable"
	// ConditionMigrationComplete is true when no node is outdated.
	ConditionMigrationComplete = "MigrationComplete"
	// ConditionSecurityGroupsApplied is true when the pod ENIs of running nodes have the security groups of their ENIConfig.
	ConditionSecurityGroupsApplied = "SecurityGroupsApplied"
	// ConditionVPCCNIConfigured is true when aws-node's environment says what the network says. It is there with agent VPCCNI only.
	ConditionVPCCNIConfigured = "VPCCNIConfigured"
	// ConditionStaticAllocationAvailable stands on networks of static allocation. It is false when no node subnet can launch nodes
	// with their pod ENIs: all allocate dynamically.
	ConditionStaticAllocationAvailable = "StaticAllocationAvailable"
	// ConditionProvisioned stands on networks with spec.provision. It is true when the VPC has every CIDR block, pod subnet and ENIConfig
	// that the spec asks for.
	ConditionProvisioned = "Provisioned"
)

// PodNetworkStatus is what the controller found.
type PodNetworkStatus struct {
	// +optional
	Conditions []status.Condition `json:"conditions,omitempty"`
	// Zones that can take nodes: one entry for each usable ENIConfig.
	// +optional
	Zones []ZoneStatus `json:"zones,omitempty"`
	// +kubebuilder:default={}
	// +optional
	Nodes NodesStatus `json:"nodes,omitempty"`
	// Provision is what spec.provision has led to.
	// +optional
	Provision *ProvisionStatus `json:"provision,omitempty"`
}

// ZoneStatus is one ENIConfig's pod subnet.
type ZoneStatus struct {
	Zone      string `json:"zone"`
	ENIConfig string `json:"eniConfig"`
	Subnet    string `json:"subnet"`
	CIDR      string `json:"cidr"`
	// FreePrefixes counts the aligned /28 blocks that nothing touches.
	FreePrefixes int32 `json:"freePrefixes"`
	// FreeAddresses counts single free addresses, those in free /28s included.
	FreeAddresses int32 `json:"freeAddresses"`
	// Reserved counts addresses in CIDR reservations of type prefix.
	Reserved int32 `json:"reserved"`
	// CommittedPrefixes and CommittedAddresses are free, and set aside for nodes that were launched and do not hold them yet.
	// +optional
	CommittedPrefixes int32 `json:"committedPrefixes,omitempty"`
	// +optional
	CommittedAddresses int32 `json:"committedAddresses,omitempty"`
	// Fragmentation is the share of free addresses that lie in no free /28, in percent.
	Fragmentation int32 `json:"fragmentation"`
	// Nodes and Pods that are in the zone on this pod network.
	Nodes int32 `json:"nodes"`
	Pods  int32 `json:"pods"`
}

// NodesStatus counts the nodes of a pod network. Its fields have defaults because a merge patch leaves out those that stay
// zero.
type NodesStatus struct {
	// +kubebuilder:default=0
	// +optional
	Total int32 `json:"total"`
	// Current nodes were launched with the network's present settings.
	// +kubebuilder:default=0
	// +optional
	Current int32 `json:"current"`
	// Outdated nodes are to be replaced.
	// +kubebuilder:default=0
	// +optional
	Outdated int32 `json:"outdated"`
}

// PodNetworkHashVersion changes with the way that Hash is computed, so that nodes are not replaced for it.
const PodNetworkHashVersion = "v1"

// Hash covers the part of the spec that nodes are launched with. A node whose hash differs is outdated. Warm targets,
// cooldown and SNAT are not in it: the agent applies them to running nodes.
func (p *PodNetwork) Hash() string {
	launch := struct {
		Agent            AgentKind
		NodeLabel        string
		PrefixDelegation Toggle
		Allocation       Allocation
		MaxPods          MaxPods
	}{p.Spec.Agent, p.Spec.ENIConfigs.NodeLabel, p.Spec.Addressing.PrefixDelegation, p.Spec.Addressing.Allocation, p.Spec.MaxPods}
	encoded, err := json.Marshal(launch)
	if err != nil {
		panic(fmt.Sprintf("encoding strings and integers: %v", err)) // cannot be: see the struct
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:8])
}

// StatusConditions makes Ready the conjunction of the other conditions.
func (p *PodNetwork) StatusConditions(...status.ForOption) status.ConditionSet {
	return status.NewReadyConditions(ConditionENIConfigsReady, ConditionSubnetsReady, ConditionAgentReady).For(p)
}

// GetConditions returns the conditions as they are.
func (p *PodNetwork) GetConditions() []status.Condition { return p.Status.Conditions }

// SetConditions replaces the conditions.
func (p *PodNetwork) SetConditions(conditions []status.Condition) { p.Status.Conditions = conditions }
