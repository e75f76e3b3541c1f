// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// view of the stage at one moment, without what was there before the cluster.
type view struct {
	at         time.Time
	own        map[string]bool // nodes of the stage
	nodes      []corev1.Node
	claims     []karpv1.NodeClaim
	pods       []corev1.Pod
	pools      []karpv1.NodePool
	networks   []v1alpha1.PodNetwork
	migrations []v1alpha1.NodeMigration
	budgets    []policyv1.PodDisruptionBudget
}

func (t *theater) look(ctx context.Context) (*view, error) {
	nodes, claims, pods, pools := &corev1.NodeList{}, &karpv1.NodeClaimList{}, &corev1.PodList{}, &karpv1.NodePoolList{}
	networks, migrations, budgets := &v1alpha1.PodNetworkList{}, &v1alpha1.NodeMigrationList{}, &policyv1.PodDisruptionBudgetList{}
	for _, list := range []client.ObjectList{pools, networks, migrations, budgets, claims, nodes, pods} {
		if _, err := cli.List(ctx, t.Kube, list); err != nil {
			return nil, err
		}
	}
	there := lo.SliceToMap(nodes.Items, func(n corev1.Node) (string, bool) { return n.Name, true })
	return &view{
		at: time.Now(), own: t.own, claims: claims.Items, pools: pools.Items, networks: networks.Items, migrations: migrations.Items, budgets: budgets.Items,
		nodes: lo.Reject(nodes.Items, func(n corev1.Node, _ int) bool { return t.own[n.Name] }),
		pods: lo.Reject(pods.Items, func(p corev1.Pod, _ int) bool {
			gone := p.Spec.NodeName != "" && !there[p.Spec.NodeName] // its node ended; the pod is collected later
			return gone || t.own[p.Spec.NodeName] || p.Labels["app.kubernetes.io/name"] == ownName || wantsOwn(&p, t.own)
		}),
	}, nil
}

// wantsOwn tells whether a DaemonSet's pod waits for a node that the stage has for itself.
func wantsOwn(pod *corev1.Pod, own map[string]bool) bool {
	if pod.Spec.NodeName != "" || pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil || pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return false
	}
	for _, term := range pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == metav1.ObjectNameField && slices.ContainsFunc(field.Values, func(name string) bool { return own[name] }) {
				return true
			}
		}
	}
	return false
}

func podReady(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (v *view) running() int {
	return lo.CountBy(v.pods, func(p corev1.Pod) bool { return podReady(&p) })
}

// waiting pods have no node.
func (v *view) waiting() []corev1.Pod {
	return lo.Filter(v.pods, func(p corev1.Pod, _ int) bool {
		return p.Spec.NodeName == "" && p.DeletionTimestamp == nil && !podutils.IsTerminal(&p)
	})
}

// starting pods have a node, and do not run yet.
func (v *view) starting() int {
	return lo.CountBy(v.pods, func(p corev1.Pod) bool { return p.Spec.NodeName != "" && !podReady(&p) && !podutils.IsTerminal(&p) })
}

func initialized(claim *karpv1.NodeClaim) bool {
	return claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue()
}

// drifted nodes are to be replaced.
func drifted(claim *karpv1.NodeClaim) bool {
	return claim.StatusConditions().Get(karpv1.ConditionTypeDrifted).IsTrue()
}

// unready NodeClaims are nodes on the way.
func (v *view) unready() int {
	return lo.CountBy(v.claims, func(c karpv1.NodeClaim) bool { return c.DeletionTimestamp == nil && !initialized(&c) })
}

// outdated nodes of Karpenter's that the pod networks are to replace.
func (v *view) outdated() int {
	return lo.SumBy(v.networks, func(n v1alpha1.PodNetwork) int { return int(n.Status.Nodes.Outdated) })
}

// toMigrate are the nodes that NodeMigrations are to empty yet.
func (v *view) toMigrate() int {
	return lo.SumBy(v.migrations, func(m v1alpha1.NodeMigration) int { return v.left(&m) })
}

// left of a NodeMigration, without the stage's own nodes: those wait for ever.
func (v *view) left(m *v1alpha1.NodeMigration) int {
	own := lo.CountBy(m.Status.NodeStatuses, func(n v1alpha1.NodeMigrationNode) bool {
		return v.own[n.Name] && n.Phase != v1alpha1.NodeDone && n.Phase != v1alpha1.NodeRefused
	})
	return int(m.Status.Nodes.Total-m.Status.Nodes.Done) - own
}

// over tells whether a NodeMigration has nothing more to do.
func (v *view) over(m *v1alpha1.NodeMigration) bool {
	done := m.Status.Phase == v1alpha1.MigrationComplete || m.Status.Phase == v1alpha1.MigrationStopped || m.Status.Nodes.Total > 0 && v.left(m) == 0
	return m.Status.ObservedGeneration == m.Generation && done
}

// print of all that changes while there is progress.
func (v *view) print() string {
	claims := lo.Map(v.claims, func(c karpv1.NodeClaim, _ int) string {
		return fmt.Sprint(c.Name, c.DeletionTimestamp != nil, initialized(&c))
	})
	slices.Sort(claims)
	return fmt.Sprint(claims, len(v.nodes), v.running(), len(v.waiting()), v.starting(), v.outdated(), v.toMigrate())
}

// complete tells whether every pod network has its nodes, every NodeMigration is done, and Karpenter has replaced what has drifted.
func (v *view) complete() bool {
	for i := range v.networks {
		n := &v.networks[i]
		root, migrated := n.StatusConditions().Root(), n.StatusConditions().Get(v1alpha1.ConditionMigrationComplete)
		if !root.IsTrue() || root.ObservedGeneration != n.Generation || !migrated.IsTrue() || migrated.ObservedGeneration != n.Generation || n.Status.Nodes.Outdated > 0 {
			return false
		}
	}
	if slices.ContainsFunc(v.migrations, func(m v1alpha1.NodeMigration) bool { return !v.over(&m) }) {
		return false
	}
	return v.unready() == 0 && !slices.ContainsFunc(v.claims, func(c karpv1.NodeClaim) bool { return c.DeletionTimestamp != nil || drifted(&c) })
}

// blocked says why it is not complete.
func (v *view) blocked() []string {
	var why []string
	for i := range v.networks {
		n := &v.networks[i]
		for _, c := range n.GetConditions() {
			if !c.IsTrue() && c.Message != "" {
				why = append(why, fmt.Sprintf("PodNetwork %s: %s is %s (%s): %s", n.Name, c.Type, c.Status, c.Reason, c.Message))
			}
		}
	}
	for _, m := range v.migrations {
		if v.over(&m) {
			continue
		}
		why = append(why, fmt.Sprintf("NodeMigration %s is %s: %d of %d nodes are done", m.Name, lo.CoalesceOrEmpty(string(m.Status.Phase), "not begun"), m.Status.Nodes.Done, int(m.Status.Nodes.Done)+v.left(&m)))
		for _, b := range m.Status.Blocked {
			if v.own[b.Node] {
				continue
			}
			why = append(why, fmt.Sprintf("NodeMigration %s: %s: %s", m.Name, b.Reason, b.Message))
		}
	}
	if n := lo.CountBy(v.claims, func(c karpv1.NodeClaim) bool { return drifted(&c) }); n > 0 {
		why = append(why, fmt.Sprintf("%d of Karpenter's nodes have drifted and are not replaced yet", n))
	}
	return why
}

// saidByKarpenter is why it leaves nodes alone that are there yet, each reason once with the number of nodes.
func (t *theater) saidByKarpenter(ctx context.Context, v *view) ([]string, error) {
	events := &corev1.EventList{}
	selector := fields.SelectorFromSet(fields.Set{"reason": "DisruptionBlocked", "involvedObject.kind": "Node"})
	if err := t.Kube.List(ctx, events, client.MatchingFieldsSelector{Selector: selector}); err != nil {
		return nil, err
	}
	there := lo.SliceToMap(v.nodes, func(n corev1.Node) (string, bool) { return n.Name, true })
	nodes := map[string]int{}
	for _, e := range events.Items {
		if there[e.InvolvedObject.Name] && v.mustGo(e.InvolvedObject.Name) {
			nodes[e.Message]++
		}
	}
	var said []string
	for _, message := range slices.Sorted(maps.Keys(nodes)) {
		said = append(said, fmt.Sprintf("Karpenter leaves %d nodes: %s", nodes[message], message))
	}
	return said[:min(len(said), mostSaid)], nil
}

// mostSaid of the reasons that Karpenter has: many differ only in a pod's name.
const mostSaid = 10
