// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"slices"

	"github.com/awslabs/operatorpkg/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
)

// controllers tells of a pod of Karpenter, which is this program. While none runs, no pod gets a new node.
func (x *index) controllers(pod *corev1.Pod) bool {
	return x.Controller.Name != "" && pod.Namespace == x.Controller.Namespace && pod.Spec.ServiceAccountName == x.Controller.Name && !isOver(pod)
}

// critical nodes carry the controller. They go last, one at a time.
func (x *index) critical(n *nodeView) bool {
	for _, pod := range n.pods {
		if x.controllers(pod) {
			return true
		}
	}
	return false
}

// homeless finds a pod that no other node, and no NodePool, could take. The controller's own pods need a node that is there: no
// NodePool has nodes while they wait. It looks at what a pod requires of nodes, and at the room on them; where pods that repel each other,
// or a NodePool's limits, decide otherwise, the migration pauses when pods stay pending.
func (x *index) homeless(n *nodeView, pods []*corev1.Pod) *v1alpha1.MigrationBlock {
	placed := map[owner]bool{}
	for _, pod := range pods {
		o, controlled := ownerOf(pod)
		if controlled && placed[o] { // the owner's pods are alike
			continue
		}
		placed[o] = true
		if why := x.noPlace(n, pod); why != "" {
			return block(v1alpha1.ReasonNoOtherPlace, n, pod, "%s could take pod %s of node %s: %s", why, name(pod), n.Name,
				"add nodes that the selector does not pick, or change what the pod requires")
		}
	}
	return nil
}

// noPlace says what was looked for in vain, "" when a place was found.
func (x *index) noPlace(from *nodeView, pod *corev1.Pod) string {
	for _, n := range x.nodes {
		if n != from && n.record == nil && !n.Spec.Unschedulable && n.DeletionTimestamp == nil && nodeReady(n.Node) && admits(n.Node, pod) && x.hasRoom(n, pod) {
			return ""
		}
	}
	if x.controllers(pod) {
		return "no other Ready node"
	}
	for i := range x.Pools {
		if poolTakes(&x.Pools[i], pod) {
			return ""
		}
	}
	return "no other Ready node and no NodePool"
}

// admits tells whether the pod's requirements and tolerations let it on the node, cordoned or not.
func admits(node *corev1.Node, pod *corev1.Pod) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Effect == corev1.TaintEffectPreferNoSchedule || taint.Key == corev1.TaintNodeUnschedulable {
			continue
		}
		if (scheduling.Taints{taint}).ToleratesPod(pod) != nil {
			return false
		}
	}
	matches, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node)
	return err == nil && matches
}

func (x *index) hasRoom(n *nodeView, pod *corev1.Pod) bool {
	if n.used == nil {
		running := make([]*corev1.Pod, 0, len(n.pods))
		for _, p := range n.pods {
			if !isOver(p) {
				running = append(running, p)
			}
		}
		n.used = resources.RequestsForPods(running...)
	}
	return resources.Fits(resources.RequestsForPods(pod), resources.Subtract(n.Status.Allocatable, n.used))
}

// poolTakes tells whether Karpenter may launch a node of the NodePool for the pod.
func poolTakes(pool *karpv1.NodePool, pod *corev1.Pod) bool {
	return !pool.StatusConditions().Get(status.ConditionReady).IsFalse() && slices.ContainsFunc(alternatives(pod), func(one *corev1.Pod) bool {
		_, fits := launch.ClaimFor(pool, one)
		return fits
	})
}

// alternatives has a pod for each term of its node affinity, of which one is enough: Karpenter's requirements hold the first only.
func alternatives(pod *corev1.Pod) []*corev1.Pod {
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return []*corev1.Pod{pod}
	}
	terms := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	pods := make([]*corev1.Pod, 0, len(terms))
	for _, term := range terms {
		one := *pod
		one.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}},
		}}
		pods = append(pods, &one)
	}
	return pods
}
