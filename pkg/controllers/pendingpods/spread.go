// SPDX-License-Identifier: Apache-2.0

package pendingpods

import (
	"math"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"
)

// cluster is what topology spread constraints look at.
type cluster struct {
	pods  []corev1.Pod
	nodes map[string]*corev1.Node
}

// spreadOverZones are the constraints of a pod that keep it from zones.
func spreadOverZones(pod *corev1.Pod) []corev1.TopologySpreadConstraint {
	return lo.Filter(pod.Spec.TopologySpreadConstraints, func(t corev1.TopologySpreadConstraint, _ int) bool {
		return t.TopologyKey == corev1.LabelTopologyZone && t.WhenUnsatisfiable == corev1.DoNotSchedule
	})
}

// leaves returns the zones that the pod's hard topology spread constraints leave of those in which a node could be launched for it.
// It decides as Karpenter does: a zone in which a node could come counts, also when there is none yet.
func (c cluster) leaves(pod *corev1.Pod, zones sets.Set[string]) sets.Set[string] {
	left := zones.Clone()
	for _, constraint := range spreadOverZones(pod) {
		selector, err := selectorOf(constraint, pod)
		if err != nil {
			continue // the API server lets none in
		}
		counts := c.count(pod, constraint, selector)
		for zone := range zones {
			counts[zone] += 0
		}
		least := math.MaxInt
		for _, n := range counts {
			least = min(least, n)
		}
		if constraint.MinDomains != nil && len(counts) < int(*constraint.MinDomains) {
			least = 0
		}
		itself := lo.Ternary(selector.Matches(labels.Set(pod.Labels)), 1, 0)
		for zone := range zones {
			if counts[zone]+itself-least > int(constraint.MaxSkew) {
				left.Delete(zone)
			}
		}
	}
	return left
}

// count the pods that the constraint is about, in each zone that has a node which it considers.
func (c cluster) count(pod *corev1.Pod, constraint corev1.TopologySpreadConstraint, selector labels.Selector) map[string]int {
	wanted := scheduling.NewStrictPodRequirements(pod)
	considered := func(node *corev1.Node) bool {
		if lo.FromPtrOr(constraint.NodeAffinityPolicy, corev1.NodeInclusionPolicyHonor) == corev1.NodeInclusionPolicyHonor &&
			scheduling.NewLabelRequirements(node.Labels).Compatible(wanted) != nil {
			return false
		}
		return lo.FromPtrOr(constraint.NodeTaintsPolicy, corev1.NodeInclusionPolicyIgnore) == corev1.NodeInclusionPolicyIgnore ||
			scheduling.Taints(node.Spec.Taints).ToleratesPod(pod) == nil
	}
	counts, zoneOf := map[string]int{}, map[string]string{}
	for name, node := range c.nodes {
		if zone := node.Labels[corev1.LabelTopologyZone]; zone != "" && considered(node) {
			zoneOf[name] = zone
			counts[zone] += 0
		}
	}
	for i := range c.pods {
		other := &c.pods[i]
		zone, here := zoneOf[other.Spec.NodeName]
		if here && other.Namespace == pod.Namespace && !podutils.IsTerminal(other) && !podutils.IsTerminating(other) && selector.Matches(labels.Set(other.Labels)) {
			counts[zone]++
		}
	}
	return counts
}

// selectorOf a constraint, with the pod's own values of its matchLabelKeys.
func selectorOf(constraint corev1.TopologySpreadConstraint, pod *corev1.Pod) (labels.Selector, error) {
	selector := constraint.LabelSelector.DeepCopy()
	for _, key := range constraint.MatchLabelKeys {
		if value, ok := pod.Labels[key]; ok && selector != nil {
			selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: []string{value}})
		}
	}
	return metav1.LabelSelectorAsSelector(selector)
}
