// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"
)

// ClaimFor is what Karpenter would ask of the NodePool for the pod alone, as far as addresses are concerned. It does not fit where the
// NodePool is being deleted, where the pod does not tolerate its taints, or where no node of it meets what the pod requires: of a node
// affinity with several terms the first, as Karpenter takes them.
func ClaimFor(pool *karpv1.NodePool, pod *corev1.Pod) (claim *karpv1.NodeClaim, fits bool) {
	template := pool.Spec.Template
	if !pool.DeletionTimestamp.IsZero() || scheduling.Taints(template.Spec.Taints).ToleratesPod(pod) != nil {
		return nil, false
	}
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(template.Spec.Requirements...)
	requirements.Add(scheduling.NewLabelRequirements(lo.Assign(template.Labels, map[string]string{karpv1.NodePoolLabelKey: pool.Name})).Values()...)
	wanted := scheduling.NewStrictPodRequirements(pod)
	if requirements.Compatible(wanted, scheduling.AllowUndefinedWellKnownLabels) != nil {
		return nil, false
	}
	requirements.Add(wanted.Values()...)
	claim = &karpv1.NodeClaim{}
	claim.Labels, claim.Annotations = template.Labels, template.Annotations
	claim.Spec.NodeClassRef = template.Spec.NodeClassRef
	claim.Spec.Requirements = requirements.NodeSelectorRequirements()
	claim.Spec.Resources.Requests = resources.RequestsForPods(pod)
	return claim, true
}
