// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Labels that nodes of a pod network carry. All can be named in NodePool requirements.
const (
	// LabelPodNetwork names the PodNetwork that a node belongs to.
	LabelPodNetwork = Group + "/pod-network"
	// LabelMaxPods is the node's max-pods, a decimal integer.
	LabelMaxPods = Group + "/max-pods"
	// LabelENIs counts the ENIs that the instance type's default network card takes, the primary included.
	LabelENIs = Group + "/enis"
	// LabelIPsPerENI counts the IPv4 addresses (or prefixes) that one ENI takes, its primary address included.
	LabelIPsPerENI = Group + "/ips-per-eni"
	// LabelAllocation says how the node was launched: Dynamic or Static, whatever its PodNetwork says later.
	LabelAllocation = Group + "/allocation"
	// LabelAgent says who serves addresses on the node, an AgentKind: what its PodNetwork said at launch. The DaemonSets of both go by
	// it. Nodes that older controllers launched have no such label, and Dovetail's agent serves them.
	LabelAgent = Group + "/agent"
	// LabelPrefixDelegation says what the node was launched with, a Toggle. Disabled: its agent takes single addresses only, for as
	// long as the node lives, whatever its PodNetwork says, because nothing else is set aside for it. Nodes that older controllers
	// launched have no such label, and go by their PodNetwork.
	LabelPrefixDelegation = Group + "/prefix-delegation"
)

// Annotations on NodeClaims that say what a node was launched with. max-pods is a label.
const (
	// AnnotationPodNetworkHash is PodNetwork.Hash at launch.
	AnnotationPodNetworkHash = Group + "/pod-network-hash"
	// AnnotationPodNetworkHashVersion is PodNetworkHashVersion at launch.
	AnnotationPodNetworkHashVersion = Group + "/pod-network-hash-version"
	// AnnotationLaunchedENIConfig names the ENIConfig that the node's pods were meant to have their addresses from.
	AnnotationLaunchedENIConfig = Group + "/eni-config"
	// AnnotationLaunchedPodSubnet is the id of that ENIConfig's subnet at launch.
	AnnotationLaunchedPodSubnet = Group + "/pod-subnet"
	// AnnotationLaunchedNeed is what of that subnet is set aside for the node: prefixes=7,addresses=0,enis=1.
	AnnotationLaunchedNeed = Group + "/pod-need"
	// AnnotationDriftVerdict is what the controller last found when it compared the above with the pod network. Writing it
	// wakes Karpenter's drift check, which otherwise comes every five minutes.
	AnnotationDriftVerdict = Group + "/drift-verdict"
)

// AnnotationPodSubnetRefused is the node agent's, on Nodes, while EC2 has lately refused it addresses of a pod subnet: a
// PodSubnetRefusal. No further node is launched there for a while.
const AnnotationPodSubnetRefused = Group + "/pod-subnet-refused"

const (
	// AnnotationNodeMigration stands on nodes that a NodeMigration has cordoned or begun to drain: which one, whether it cordoned the
	// node itself, since when, and what ran there (JSON).
	AnnotationNodeMigration = Group + "/node-migration"
	// FinalizerNodeMigration lets a NodeMigration uncordon its nodes before it goes.
	FinalizerNodeMigration = Group + "/node-migration"
)

// Names that the Amazon VPC CNI gave to ENIConfig selection. Nodes and manifests that carry them keep their meaning.
const (
	// LabelENIConfig is the label and the annotation that names a node's ENIConfig.
	LabelENIConfig = "k8s.amazonaws.com/eniConfig"
	// AnnotationENIConfig overrides LabelENIConfig on a node.
	AnnotationENIConfig = LabelENIConfig
	// LabelExternalENIConfig is set by whoever manages ENIConfigs from outside; it wins over all others.
	LabelExternalENIConfig = "vpc.amazonaws.com/externalEniConfig"
	// ConditionPodNetworkReady is the node agent's, on Nodes: False when a pod that is bound to the node gets no address. Its
	// reason and message say why.
	ConditionPodNetworkReady = "PodNetworkReady"

	// DefaultENIConfig is used by a node that nothing else selects for.
	DefaultENIConfig = "default"
)

// Labels lists every label of Dovetail's own domain, for registration as well-known.
func Labels() []string {
	return []string{LabelPodNetwork, LabelMaxPods, LabelENIs, LabelIPsPerENI, LabelAllocation, LabelAgent, LabelPrefixDelegation}
}
