// SPDX-License-Identifier: Apache-2.0

package vpccni

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/awslabs/operatorpkg/option"
	"github.com/samber/lo"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	coreprovisioning "sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// SelectsLaunched tells whether a DaemonSet has a pod on the nodes that Karpenter launches on the network, for the NodePool or, where that is
// nil, for any without requirements and taints of its own.
func SelectsLaunched(daemonSet *appsv1.DaemonSet, network *v1alpha1.PodNetwork, pool *karpv1.NodePool) bool {
	launched, taints := scheduling.NewRequirements(), []corev1.Taint(nil)
	if pool != nil {
		launched, taints = coreprovisioning.NewNodeClaimTemplate(pool).Requirements, pool.Spec.Template.Spec.Taints
	}
	launched.Add(scheduling.NewLabelRequirements(map[string]string{
		corev1.LabelOSStable: string(corev1.Linux), v1alpha1.LabelPodNetwork: network.Name, v1alpha1.LabelAgent: string(podnetwork.AgentOf(network)),
	}).Values()...)
	return Selects(daemonSet, launched, taints, scheduling.AllowUndefinedWellKnownLabels)
}

// Selects tells whether a DaemonSet has a pod on nodes that these requirements and taints describe.
func Selects(daemonSet *appsv1.DaemonSet, nodes scheduling.Requirements, taints []corev1.Taint, options ...option.Function[scheduling.CompatibilityOptions]) bool {
	pod := daemonSet.Spec.Template.Spec
	if scheduling.Taints(taints).Tolerates(pod.Tolerations) != nil {
		return false
	}
	labels := scheduling.NewLabelRequirements(pod.NodeSelector)
	required := requiredTerms(pod.Affinity)
	if required == nil {
		return nodes.IsCompatible(labels, options...)
	}
	return slices.ContainsFunc(required.NodeSelectorTerms, func(term corev1.NodeSelectorTerm) bool {
		if len(term.MatchExpressions) == 0 { // an empty term matches nothing, and one of fields one node by name
			return false
		}
		wants := scheduling.NewRequirements(labels.Values()...)
		wants.Add(scheduling.NewNodeSelectorRequirements(term.MatchExpressions...).Values()...)
		return nodes.IsCompatible(wants, options...)
	})
}

func requiredTerms(affinity *corev1.Affinity) *corev1.NodeSelector {
	if affinity == nil || affinity.NodeAffinity == nil {
		return nil
	}
	return affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

// Affinity that aws-node must have: what it now requires, on nodes that are on no pod network or that say VPCCNI. A node of a pod
// network without that label is one that an older controller launched for Dovetail's agent.
func Affinity(daemonSet *appsv1.DaemonSet) *corev1.NodeSelector {
	now := []corev1.NodeSelectorTerm{{}}
	if required := requiredTerms(daemonSet.Spec.Template.Spec.Affinity); required != nil {
		now = required.NodeSelectorTerms
	}
	affinity := &corev1.NodeSelector{}
	for _, term := range now {
		rest := lo.Reject(term.MatchExpressions, func(r corev1.NodeSelectorRequirement, _ int) bool {
			return r.Key == v1alpha1.LabelPodNetwork || r.Key == v1alpha1.LabelAgent
		})
		for _, ours := range []corev1.NodeSelectorRequirement{
			{Key: v1alpha1.LabelPodNetwork, Operator: corev1.NodeSelectorOpDoesNotExist},
			{Key: v1alpha1.LabelAgent, Operator: corev1.NodeSelectorOpIn, Values: []string{string(v1alpha1.AgentVPCCNI)}},
		} {
			wanted := corev1.NodeSelectorTerm{MatchExpressions: append(slices.Clone(rest), ours), MatchFields: term.MatchFields}
			if !slices.ContainsFunc(affinity.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool { return equality.Semantic.DeepEqual(t, wanted) }) {
				affinity.NodeSelectorTerms = append(affinity.NodeSelectorTerms, wanted)
			}
		}
	}
	return affinity
}

// PatchCommand gives aws-node that affinity.
func PatchCommand(daemonSet *appsv1.DaemonSet) (string, error) {
	affinity, err := json.Marshal(corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: Affinity(daemonSet)}})
	if err != nil {
		return "", fmt.Errorf("encoding the affinity of DaemonSet %s, %w", daemonSet.Name, err)
	}
	return fmt.Sprintf(`kubectl -n %s patch daemonset %s --type merge -p '{"spec":{"template":{"spec":{"affinity":%s}}}}'`, Namespace, DaemonSet, affinity), nil
}
