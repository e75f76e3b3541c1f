// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// NodeMigration empties nodes that Karpenter does not own (managed node groups, self-managed), a bounded number at a time, so
// that their pods come up on others. It never touches a node that Karpenter owns: those drift.
//
// Deleting a migration that is not complete stops it; a complete one leaves its nodes cordoned.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=nodemig
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Progressing")].reason`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes.total`
// +kubebuilder:printcolumn:name="Done",type=integer,JSONPath=`.status.nodes.done`
// +kubebuilder:printcolumn:name="Draining",type=integer,JSONPath=`.status.nodes.draining`
// +kubebuilder:printcolumn:name="Pending",type=integer,JSONPath=`.status.nodes.pending`
// +kubebuilder:printcolumn:name="Blocked-By",type=string,priority=1,JSONPath=`.status.blocked[0].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeMigration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NodeMigrationSpec   `json:"spec"`
	Status NodeMigrationStatus `json:"status,omitempty"`
}

// NodeMigrationList is a list of NodeMigrations.
//
// +kubebuilder:object:root=true
type NodeMigrationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeMigration `json:"items"`
}

// NodeMigrationSpec is what a user declares.
type NodeMigrationSpec struct {
	// NodeSelector picks the old nodes by label. Of these, nodes that Karpenter owns and nodes that joined after the NodeMigration was
	// created are left alone, each with its reason in the status.
	// +kubebuilder:validation:XValidation:message="must not be empty: name the old nodes by a label, such as eks.amazonaws.com/nodegroup",rule="has(self.matchLabels) && size(self.matchLabels) > 0 || has(self.matchExpressions) && size(self.matchExpressions) > 0"
	// +kubebuilder:validation:XValidation:message="must not pick nodes by karpenter.sh/nodepool: Karpenter replaces its nodes itself",rule="!(has(self.matchLabels) && 'karpenter.sh/nodepool' in self.matchLabels)"
	// +kubebuilder:validation:XValidation:message="matchExpressions: In and NotIn need values, Exists and DoesNotExist take none, and there are no other operators",rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))"
	NodeSelector metav1.LabelSelector `json:"nodeSelector"`

	// MaxUnavailable bounds the nodes that are cordoned and drained at a time: a number, or a share of all nodes of the migration, rounded
	// down to at least one. A node counts until its pods' owners have their replicas Ready elsewhere.
	// +kubebuilder:default=1
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:message="must be a number from 1, or a percentage from 1% to 100%; to hold the migration set spec.paused",rule="type(self) == int ? int(self) >= 1 : string(self).matches('^([1-9][0-9]?|100)%$')"
	// +optional
	MaxUnavailable intstr.IntOrString `json:"maxUnavailable,omitempty,omitzero"`

	// Cordon says when a node is closed to new pods. Draining: when its turn comes, so pods of the first nodes may come up on nodes that
	// are emptied later, and move again. All: each node at the start, so that pods move once; what is evicted, and what starts meanwhile,
	// needs other nodes then.
	// +kubebuilder:default=Draining
	// +optional
	Cordon Cordon `json:"cordon,omitempty"`

	// After says what becomes of an empty node: Leave keeps it cordoned for its group to end it, Terminate ends its instance.
	// +kubebuilder:default=Leave
	// +optional
	After After `json:"after,omitempty"`

	// UncontrolledPods says what to do with pods that no controller would make again: Wait leaves their nodes alone until somebody
	// has moved the pods, Evict loses the pods.
	// +kubebuilder:default=Wait
	// +optional
	UncontrolledPods UncontrolledPods `json:"uncontrolledPods,omitempty"`

	// +kubebuilder:default={}
	// +optional
	Timeouts MigrationTimeouts `json:"timeouts,omitempty,omitzero"`

	// Paused begins no further node and evicts no further pod. Nodes stay as they are.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// Stop undoes: every node that this migration has cordoned, and whose instance it has not ended, takes pods again.
	// +optional
	Stop bool `json:"stop,omitempty"`
}

// Cordon is Draining or All.
//
// +kubebuilder:validation:Enum=Draining;All
type Cordon string

// Values of Cordon.
const (
	CordonDraining Cordon = "Draining"
	CordonAll      Cordon = "All"
)

// After is Leave or Terminate.
//
// +kubebuilder:validation:Enum=Leave;Terminate
type After string

// Values of After.
const (
	AfterLeave     After = "Leave"
	AfterTerminate After = "Terminate"
)

// UncontrolledPods is Wait or Evict.
//
// +kubebuilder:validation:Enum=Wait;Evict
type UncontrolledPods string

// Values of UncontrolledPods.
const (
	UncontrolledPodsWait  UncontrolledPods = "Wait"
	UncontrolledPodsEvict UncontrolledPods = "Evict"
)

// MigrationTimeouts say when a migration pauses by itself. It goes on by itself when the cause has gone.
type MigrationTimeouts struct {
	// Eviction is how long a node may take to become empty before no further node is begun.
	// +kubebuilder:default="15m"
	// +kubebuilder:validation:XValidation:message="must be between 1s and 24h",rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')"
	// +optional
	Eviction metav1.Duration `json:"eviction,omitempty,omitzero"`
	// PodsPending is how long a pod that replaces an evicted one, or that could run on a node that the migration keeps cordoned, may
	// wait before nothing further is evicted.
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:XValidation:message="must be between 1s and 24h",rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')"
	// +optional
	PodsPending metav1.Duration `json:"podsPending,omitempty,omitzero"`
}

// Condition types of a NodeMigration.
const (
	// ConditionProgressing is true while nodes become empty. Its reason says what the migration does, or what it waits for.
	ConditionProgressing = "Progressing"
	// ConditionPaused is true while no further node is begun; its reason says why.
	ConditionPaused = "Paused"
	// ConditionComplete is true when every node of the migration is empty.
	ConditionComplete = "Complete"
)

// MigrationPhase sums the conditions up.
type MigrationPhase string

// Phases of a migration.
const (
	MigrationPending     MigrationPhase = "Pending" // no node to migrate was found
	MigrationProgressing MigrationPhase = "Progressing"
	MigrationWaiting     MigrationPhase = "Waiting" // nothing can be done until something outside changes: see status.blocked
	MigrationPaused      MigrationPhase = "Paused"
	MigrationStopped     MigrationPhase = "Stopped"
	MigrationComplete    MigrationPhase = "Complete"
)

// NodePhase is where a node is on its way.
type NodePhase string

// Phases of a node.
const (
	NodePending  NodePhase = "Pending"  // to be drained
	NodeDraining NodePhase = "Draining" // cordoned, pods are being evicted
	NodeSettling NodePhase = "Settling" // empty; its pods' owners do not have their replicas Ready elsewhere yet
	NodeDone     NodePhase = "Done"
	NodeRefused  NodePhase = "Refused" // selected, and never to be touched
)

// Reasons for which a migration or a node waits, or a node is refused. They stand in conditions, in status and in events.
const (
	ReasonDraining  = "Draining"
	ReasonCompleted = "Completed"
	ReasonStopped   = "Stopped"
	// ReasonNoNodes: the selector picks no node that may be migrated.
	ReasonNoNodes = "NoNodes"
	// ReasonInvalidSelector: the API server takes label selectors that no labels can match.
	ReasonInvalidSelector = "InvalidSelector"

	// ReasonUserRequested: spec.paused.
	ReasonUserRequested = "UserRequested"
	// ReasonPodsPending: pods wait for a node for longer than spec.timeouts.podsPending.
	ReasonPodsPending = "PodsPending"
	// ReasonPodNetworkCapacity: the condition CapacityAvailable of a PodNetwork is False.
	ReasonPodNetworkCapacity = "PodNetworkCapacity"
	// ReasonEvictionTimeout: a pod was evicted and does not end.
	ReasonEvictionTimeout = "EvictionTimeout"
	// ReasonReplicasNotReady: a node is empty, and replicas of what ran there are not Ready elsewhere.
	ReasonReplicasNotReady = "ReplicasNotReady"
	// ReasonPodDisruptionBudget: a PodDisruptionBudget allows no eviction now.
	ReasonPodDisruptionBudget = "PodDisruptionBudget"
	// ReasonDoNotDisrupt: a pod or the node is annotated karpenter.sh/do-not-disrupt.
	ReasonDoNotDisrupt = "DoNotDisrupt"
	// ReasonUncontrolledPod: no controller would make the pod again, and spec.uncontrolledPods is Wait.
	ReasonUncontrolledPod = "UncontrolledPod"
	// ReasonNoOtherPlace: no other Ready node, and for a pod other than the controller's no NodePool, could take the pod.
	ReasonNoOtherPlace = "NoOtherPlace"
	// ReasonEvictionFailed: the API server refused an eviction for another reason than a budget.
	ReasonEvictionFailed = "EvictionFailed"
	// ReasonNodeNotWritten: the API server refused to cordon, uncordon or annotate a node.
	ReasonNodeNotWritten = "NodeNotWritten"
	// ReasonTerminationFailed: EC2 did not terminate the instance.
	ReasonTerminationFailed = "TerminationFailed"

	// ReasonKarpenterOwned: Karpenter replaces the node itself.
	ReasonKarpenterOwned = "KarpenterOwned"
	// ReasonFargate: the node is one pod's.
	ReasonFargate = "Fargate"
	// ReasonJoinedLater: the node is younger than the NodeMigration, and so not old.
	ReasonJoinedLater = "JoinedLater"
	// ReasonOtherMigration: another NodeMigration has begun with the node.
	ReasonOtherMigration = "OtherMigration"
)

// NodeMigrationStatus is what the controller found and did. What it needs to go on after a restart is on the nodes, in
// AnnotationNodeMigration.
type NodeMigrationStatus struct {
	// +optional
	Phase MigrationPhase `json:"phase,omitempty"`
	// ObservedGeneration is the spec that the rest of the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// +optional
	Nodes MigratedNodes `json:"nodes,omitempty"`
	// NodeSelector is the one that Nodes counts: what another one no longer picks has not gone.
	// +optional
	NodeSelector string `json:"nodeSelector,omitempty"`
	// MaxUnavailable is spec.maxUnavailable as a number of nodes.
	// +optional
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`
	// Blocked is what stands in the way now, at most 10.
	// +kubebuilder:validation:MaxItems=10
	// +optional
	Blocked []MigrationBlock `json:"blocked,omitempty"`
	// NodeStatuses tell of nodes, those at work first, at most 100.
	// +kubebuilder:validation:MaxItems=100
	// +optional
	NodeStatuses []NodeMigrationNode `json:"nodeStatuses,omitempty"`
	// StartedAt is when the first node was begun, FinishedAt when the last one was done.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// +optional
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
}

// MigratedNodes counts. Its fields have defaults because a merge patch leaves out those that stay zero.
type MigratedNodes struct {
	// Total of the nodes to migrate, those that are done and those whose Node object has gone included.
	// +kubebuilder:default=0
	// +optional
	Total int32 `json:"total"`
	// Done are empty, or gone.
	// +kubebuilder:default=0
	// +optional
	Done int32 `json:"done"`
	// Draining are cordoned and not done.
	// +kubebuilder:default=0
	// +optional
	Draining int32 `json:"draining"`
	// +kubebuilder:default=0
	// +optional
	Pending int32 `json:"pending"`
	// Refused are selected and not to be migrated. Total is without them.
	// +kubebuilder:default=0
	// +optional
	Refused int32 `json:"refused"`
	// Gone is the part of Done whose Node objects have gone.
	// +kubebuilder:default=0
	// +optional
	Gone int32 `json:"gone"`
}

// MigrationBlock is one thing that stands in the way.
type MigrationBlock struct {
	Reason string `json:"reason"`
	// +optional
	Node string `json:"node,omitempty"`
	// Pod is namespace/name.
	// +optional
	Pod string `json:"pod,omitempty"`
	// PodDisruptionBudget is the name, in the pod's namespace.
	// +optional
	PodDisruptionBudget string `json:"podDisruptionBudget,omitempty"`
	// Message says what to do.
	Message string `json:"message"`
}

// NodeMigrationNode is one node of a migration.
type NodeMigrationNode struct {
	Name  string    `json:"name"`
	Phase NodePhase `json:"phase"`
	// Pods that are still to leave the node.
	// +optional
	Pods int32 `json:"pods,omitempty"`
	// Since is when draining began.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
}
