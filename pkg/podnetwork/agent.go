// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"cmp"
	"slices"

	"github.com/awslabs/operatorpkg/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// AgentOf returns who serves the nodes that the network launches.
func AgentOf(network *v1alpha1.PodNetwork) v1alpha1.AgentKind {
	return cmp.Or(network.Spec.Agent, v1alpha1.AgentDovetail)
}

// AgentOn returns who serves a node of a pod network. It is fixed at launch.
func AgentOn(node metav1.Object) v1alpha1.AgentKind {
	return cmp.Or(v1alpha1.AgentKind(node.GetLabels()[v1alpha1.LabelAgent]), v1alpha1.AgentDovetail)
}

// Launches tells whether nodes may be launched on the network: not while nothing would give their pods addresses, or two programs
// would. A problem in one zone does not count: the others have their ENIConfigs.
func Launches(network *v1alpha1.PodNetwork) bool {
	return !slices.ContainsFunc(network.Status.Conditions, func(c status.Condition) bool {
		return c.Type == v1alpha1.ConditionAgentReady && c.IsFalse()
	})
}
