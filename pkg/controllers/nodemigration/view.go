// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// View is all that a plan is made from.
type View struct {
	Now       time.Time
	Migration *v1alpha1.NodeMigration
	// Nodes and Pods of the whole cluster.
	Nodes    []*corev1.Node
	Pods     []*corev1.Pod
	Budgets  []policyv1.PodDisruptionBudget
	Pools    []karpv1.NodePool
	Networks []v1alpha1.PodNetwork
	// Claimed are the provider ids of Karpenter's NodeClaims.
	Claimed map[string]bool
	// Controller is the service account that Karpenter, which is this program, runs as; empty outside of a cluster.
	Controller types.NamespacedName
	// Desired replicas of owners that fall short of what they had; 0 for those that are deleted. Owners of kinds that have no such
	// number are not in it.
	Desired map[owner]int32
}

// index is a View that was looked through once.
type index struct {
	*View
	selector labels.Selector
	nodes    []*nodeView // by age, then name
	byName   map[string]*nodeView
	budgets  map[string][]budget // by namespace
	ready    map[owner]int32     // Ready pods of owners that no drain will end
	unready  map[owner]*corev1.Pod
}

// nodeView is a node and what is on it.
type nodeView struct {
	*corev1.Node
	record *record
	// unreadable is an annotation that is none of ours.
	unreadable error
	pods       []*corev1.Pod
	used       corev1.ResourceList // nil until asked for
}

func newIndex(v *View) (*index, error) {
	selector, err := metav1.LabelSelectorAsSelector(&v.Migration.Spec.NodeSelector)
	if err != nil {
		return nil, err
	}
	x := &index{View: v, selector: selector, byName: make(map[string]*nodeView, len(v.Nodes)), budgets: map[string][]budget{},
		ready: map[owner]int32{}, unready: map[owner]*corev1.Pod{}}
	for _, node := range v.Nodes {
		n := &nodeView{Node: node}
		n.record, n.unreadable = recordOf(node)
		x.nodes = append(x.nodes, n)
		x.byName[node.Name] = n
	}
	slices.SortFunc(x.nodes, func(a, b *nodeView) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, pod := range v.Pods {
		if n := x.byName[pod.Spec.NodeName]; n != nil {
			n.pods = append(n.pods, pod)
		}
	}
	for i := range v.Budgets {
		b, err := newBudget(&v.Budgets[i])
		if err != nil {
			continue // the API server takes none like it, and evicts what it does not match
		}
		x.budgets[b.Namespace] = append(x.budgets[b.Namespace], b)
	}
	x.countReplicas()
	return x, nil
}

// countReplicas leaves out pods that are to leave a node: they are no replicas elsewhere.
func (x *index) countReplicas() {
	for _, pod := range x.Pods {
		o, controlled := ownerOf(pod)
		if !controlled || isOver(pod) {
			continue
		}
		if n := x.byName[pod.Spec.NodeName]; n != nil && n.record.inFlight() && x.leaves(n, pod) {
			continue
		}
		switch {
		case pod.DeletionTimestamp != nil:
		case isReady(pod):
			x.ready[o]++
		default:
			x.unready[o] = pod
		}
	}
}

// mine tells that this migration has begun with the node or cordoned it.
func (x *index) mine(n *nodeView) bool {
	return n.record != nil && n.record.Migration == x.Migration.Name
}

func (x *index) selected(n *nodeView) bool { return x.selector.Matches(labels.Set(n.Labels)) }

// refusal is why a node that the selector picks is not this migration's, "" when it is.
func (x *index) refusal(n *nodeView) (reason, message string) {
	switch {
	case x.karpenters(n):
		return v1alpha1.ReasonKarpenterOwned, "Karpenter owns the node and replaces it itself when it drifts"
	case n.Labels["eks.amazonaws.com/compute-type"] == "fargate":
		return v1alpha1.ReasonFargate, "the node is Fargate's, and goes with its pod: restart what runs there"
	case n.unreadable != nil:
		return v1alpha1.ReasonOtherMigration, n.unreadable.Error() + ": remove the annotation"
	case n.record != nil && !x.mine(n):
		return v1alpha1.ReasonOtherMigration, "NodeMigration " + n.record.Migration + " has the node: stop that one first"
	case n.record == nil && n.CreationTimestamp.After(x.Migration.CreationTimestamp.Time):
		return v1alpha1.ReasonJoinedLater, "the node is younger than the NodeMigration: if it is to be migrated too, create another one"
	}
	return "", ""
}

// karpenters tells of a node that Karpenter launched, even if somebody took the label away.
func (x *index) karpenters(n *nodeView) bool {
	if _, labelled := n.Labels[karpv1.NodePoolLabelKey]; labelled || n.Spec.ProviderID != "" && x.Claimed[n.Spec.ProviderID] {
		return true
	}
	return slices.ContainsFunc(n.OwnerReferences, func(r metav1.OwnerReference) bool { return r.Kind == "NodeClaim" })
}

func nodeReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
