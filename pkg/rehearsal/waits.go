// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/clock"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// disrupting tells which nodes are on their way out, by name.
func (v *view) disrupting() map[string]bool {
	out := map[string]bool{}
	for i := range v.nodes {
		n := &v.nodes[i]
		if n.DeletionTimestamp != nil || slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == karpv1.DisruptedTaintKey }) {
			out[n.Name] = true
		}
	}
	for _, m := range v.migrations {
		for _, n := range m.Status.NodeStatuses {
			if n.Phase == v1alpha1.NodeDraining || n.Phase == v1alpha1.NodeSettling {
				out[n.Name] = true
			}
		}
	}
	return out
}

// Reasons of a Wait.
const (
	WaitBudget       = "DisruptionBudget"
	WaitPDB          = "PodDisruptionBudget"
	WaitDoNotDisrupt = "DoNotDisrupt"
	WaitNodes        = "NodesStarting"
	WaitEnding       = "NodesEnding"
	WaitPods         = "PodsWithoutNode"
	WaitKarpenter    = "Karpenter"
)

// Wait is something that kept the migration from going on, and for how long altogether. Several do so at once.
type Wait struct {
	Reason string `json:"reason"`
	// Object as kind name.
	Object  string  `json:"object,omitempty"`
	Message string  `json:"message"`
	Seconds float64 `json:"seconds"`
}

// waits that hold at the moment. So many pods had no node before, and are not waited for.
func (v *view) waits(unplaced int) []Wait {
	var found []Wait
	disrupting := v.disrupting()
	found = append(found, v.budgetWaits(disrupting)...)
	found = append(found, v.podBudgetWaits(disrupting)...)
	found = append(found, v.annotated(disrupting)...)
	if v.unready() > 0 {
		found = append(found, Wait{Reason: WaitNodes, Message: "new nodes start"})
	}
	if slices.ContainsFunc(v.claims, func(c karpv1.NodeClaim) bool { return c.DeletionTimestamp != nil }) {
		found = append(found, Wait{Reason: WaitEnding, Message: "old nodes are emptied, and end"})
	}
	if len(v.waiting()) > unplaced {
		found = append(found, Wait{Reason: WaitPods, Message: "pods wait for a node"})
	}
	due := slices.ContainsFunc(v.claims, func(c karpv1.NodeClaim) bool {
		return c.DeletionTimestamp == nil && drifted(&c) && !disrupting[c.Status.NodeName]
	})
	if len(found) == 0 && due {
		found = append(found, Wait{Reason: WaitKarpenter, Message: "it looks for the next node to replace every 10 s, and takes one at a time"})
	}
	return found
}

// budgetWaits of NodePools that have nodes to replace, and as many under way as they may.
func (v *view) budgetWaits(disrupting map[string]bool) (found []Wait) {
	for i := range v.pools {
		pool := &v.pools[i]
		total, away, due := 0, 0, 0
		for _, c := range v.claims {
			if c.Labels[karpv1.NodePoolLabelKey] != pool.Name || !initialized(&c) {
				continue
			}
			total++
			switch {
			case c.DeletionTimestamp != nil || disrupting[c.Status.NodeName]:
				away++
			case drifted(&c):
				due++
			}
		}
		allowed, err := pool.GetAllowedDisruptionsByReason(clock.RealClock{}, total, karpv1.DisruptionReasonDrifted)
		if err == nil && due > 0 && away >= allowed {
			texts := lo.FilterMap(pool.Spec.Disruption.Budgets, func(b karpv1.Budget, _ int) (string, bool) {
				return b.Nodes, len(b.Reasons) == 0 || slices.Contains(b.Reasons, karpv1.DisruptionReasonDrifted)
			})
			found = append(found, Wait{Reason: WaitBudget, Object: "NodePool " + pool.Name, Message: fmt.Sprintf("no more than %s of its nodes at a time", strings.Join(texts, " and "))})
		}
	}
	return found
}

// podBudgetWaits of PodDisruptionBudgets that allow no eviction while a node with their pods is to be emptied.
func (v *view) podBudgetWaits(disrupting map[string]bool) (found []Wait) {
	for i := range v.budgets {
		budget := &v.budgets[i]
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err != nil || budget.Status.DisruptionsAllowed > 0 || budget.Status.ObservedGeneration == 0 {
			continue
		}
		inTheWay := slices.ContainsFunc(v.pods, func(p corev1.Pod) bool {
			return p.Namespace == budget.Namespace && selector.Matches(labels.Set(p.Labels)) && p.DeletionTimestamp == nil && (disrupting[p.Spec.NodeName] || v.mustGo(p.Spec.NodeName))
		})
		if inTheWay {
			found = append(found, Wait{Reason: WaitPDB, Object: "PodDisruptionBudget " + budget.Namespace + "/" + budget.Name, Message: "it allows no eviction"})
		}
	}
	return found
}

// mustGo tells whether a node has drifted.
func (v *view) mustGo(node string) bool {
	return node != "" && slices.ContainsFunc(v.claims, func(c karpv1.NodeClaim) bool {
		return c.Status.NodeName == node && drifted(&c)
	})
}

// annotated pods keep drifted nodes where they are.
func (v *view) annotated(disrupting map[string]bool) (found []Wait) {
	for i := range v.pods {
		p := &v.pods[i]
		if podutils.IsDoNotDisruptActive(p, clock.RealClock{}, nil) && !disrupting[p.Spec.NodeName] && v.mustGo(p.Spec.NodeName) {
			found = append(found, Wait{Reason: WaitDoNotDisrupt, Object: "Pod " + p.Namespace + "/" + workloadName(p), Message: "it is annotated " + karpv1.DoNotDisruptAnnotationKey})
		}
	}
	return lo.Uniq(found)
}

// workloadName of a pod: its owner's, without what a Deployment puts behind it.
func workloadName(pod *corev1.Pod) string {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return pod.Name
	}
	return strings.TrimSuffix(owner.Name, "-"+pod.Labels["pod-template-hash"])
}
