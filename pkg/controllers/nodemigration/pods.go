// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/clock"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// lost is how long after the end of its grace period a pod is given up whose node does not answer: its kubelet would have ended it.
const lost = time.Minute

// cordoned is the taint of a cordoned node.
var cordoned = scheduling.Taints{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}

// leaves tells whether a pod is to leave a node that is drained. DaemonSets' and static pods stay. So does what came back after the
// node was cordoned because it tolerates that: it would come back for ever.
func (x *index) leaves(n *nodeView, pod *corev1.Pod) bool {
	switch {
	case isOver(pod), podutils.IsOwnedByDaemonSet(pod), podutils.IsOwnedByNode(pod), pod.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return false
	case n.record.inFlight() && pod.CreationTimestamp.After(n.record.Since.Time) && cordoned.ToleratesPod(pod) == nil:
		return false
	case pod.DeletionTimestamp != nil:
		return nodeReady(n.Node) || x.Now.Sub(pod.DeletionTimestamp.Time) < lost
	}
	return true
}

// leaving lists the pods that are to leave a node: those to evict, and those that are ending.
func (x *index) leaving(n *nodeView) (active, ending []*corev1.Pod) {
	for _, pod := range n.pods {
		switch {
		case !x.leaves(n, pod):
		case pod.DeletionTimestamp != nil:
			ending = append(ending, pod)
		default:
			active = append(active, pod)
		}
	}
	return active, ending
}

// held tells what keeps a node as it is: somebody's word on the node or on one of its pods.
func (x *index) held(n *nodeView, active []*corev1.Pod) *v1alpha1.MigrationBlock {
	if n.Annotations[karpv1.DoNotDisruptAnnotationKey] == "true" {
		return &v1alpha1.MigrationBlock{Reason: v1alpha1.ReasonDoNotDisrupt, Node: n.Name,
			Message: fmt.Sprintf("node %s is annotated %s", n.Name, karpv1.DoNotDisruptAnnotationKey)}
	}
	guarded := active
	if x.Migration.Spec.After == v1alpha1.AfterTerminate { // the others go with the instance
		guarded = lo.Filter(n.pods, func(p *corev1.Pod, _ int) bool { return podutils.IsActive(p) })
	}
	for _, pod := range guarded {
		if podutils.IsDoNotDisruptActive(pod, frozen{now: x.Now}, nil) {
			return block(v1alpha1.ReasonDoNotDisrupt, n, pod, "pod %s on node %s is annotated %s", name(pod), n.Name, karpv1.DoNotDisruptAnnotationKey)
		}
	}
	if x.Migration.Spec.UncontrolledPods == v1alpha1.UncontrolledPodsEvict {
		return nil
	}
	for _, pod := range active {
		if _, controlled := ownerOf(pod); !controlled {
			return block(v1alpha1.ReasonUncontrolledPod, n, pod,
				"no controller would make pod %s on node %s again: move or delete it, or set spec.uncontrolledPods to Evict", name(pod), n.Name)
		}
	}
	return nil
}

// budget is a PodDisruptionBudget and what is left of it in this round.
type budget struct {
	*policyv1.PodDisruptionBudget
	selector labels.Selector
	left     *int32
}

func newBudget(b *policyv1.PodDisruptionBudget) (budget, error) {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return budget{PodDisruptionBudget: b, selector: selector, left: lo.ToPtr(b.Status.DisruptionsAllowed)}, err
}

// ask whether a pod may be evicted in this round. What the budgets' status says spares the API server evictions that it would refuse; the
// last word is its own. Whether a pod that is not Ready may go is left to it alone: that depends on the budget's policy.
func (x *index) ask(n *nodeView, pod *corev1.Pod) (evict bool, blocked *v1alpha1.MigrationBlock) {
	matching := x.budgetsOf(pod)
	if len(matching) > 1 {
		names := strings.Join(lo.Map(matching, func(b budget, _ int) string { return b.Name }), ", ")
		blocked := block(v1alpha1.ReasonPodDisruptionBudget, n, pod,
			"pod %s on node %s has several PodDisruptionBudgets (%s), and the API server evicts none like it: leave it one", name(pod), n.Name, names)
		blocked.PodDisruptionBudget = matching[0].Name
		return false, blocked
	}
	if len(matching) == 0 || !isReady(pod) {
		return true, nil
	}
	only := matching[0]
	if only.Status.DisruptionsAllowed <= 0 {
		blocked := block(v1alpha1.ReasonPodDisruptionBudget, n, pod,
			"PodDisruptionBudget %s/%s allows no eviction of pod %s on node %s now", pod.Namespace, only.Name, name(pod), n.Name)
		blocked.PodDisruptionBudget = only.Name
		return false, blocked
	}
	*only.left--
	return *only.left >= 0, nil
}

func (x *index) budgetsOf(pod *corev1.Pod) []budget {
	return lo.Filter(x.budgets[pod.Namespace], func(b budget, _ int) bool { return b.selector.Matches(labels.Set(pod.Labels)) })
}

// guarded pods are those that a budget lets nobody evict now.
func (x *index) guarded(pod *corev1.Pod) bool {
	matching := x.budgetsOf(pod)
	return len(matching) > 1 || len(matching) == 1 && matching[0].Status.DisruptionsAllowed <= 0
}

func block(reason string, n *nodeView, pod *corev1.Pod, format string, args ...any) *v1alpha1.MigrationBlock {
	return &v1alpha1.MigrationBlock{Reason: reason, Node: n.Name, Pod: name(pod), Message: fmt.Sprintf(format, args...)}
}

func name(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

func isOver(pod *corev1.Pod) bool { return podutils.IsTerminal(pod) }

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// frozen is the time of a View, for Karpenter's functions that take a clock.
type frozen struct {
	clock.Clock
	now time.Time
}

func (f frozen) Now() time.Time { return f.now }
