// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

var (
	start   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	account = types.NamespacedName{Namespace: "dovetail", Name: "controller"}
)

func migration(change ...func(*v1alpha1.NodeMigrationSpec)) *v1alpha1.NodeMigration {
	m := &v1alpha1.NodeMigration{
		ObjectMeta: metav1.ObjectMeta{Name: "m", CreationTimestamp: metav1.NewTime(start)},
		Spec: v1alpha1.NodeMigrationSpec{
			NodeSelector:   metav1.LabelSelector{MatchLabels: map[string]string{"group": "old"}},
			MaxUnavailable: intstr.FromInt32(1), Cordon: v1alpha1.CordonDraining, After: v1alpha1.AfterLeave, UncontrolledPods: v1alpha1.UncontrolledPodsWait,
			Timeouts: v1alpha1.MigrationTimeouts{Eviction: metav1.Duration{Duration: 15 * time.Minute}, PodsPending: metav1.Duration{Duration: 5 * time.Minute}},
		},
	}
	for _, f := range change {
		f(&m.Spec)
	}
	m.Status.NodeSelector = "group=old"
	return m
}

func node(name, group string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"group": group}, CreationTimestamp: metav1.NewTime(start.Add(-time.Hour))},
		Status: corev1.NodeStatus{
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100"), corev1.ResourcePods: resource.MustParse("1000")},
		},
	}
	for _, f := range change {
		f(n)
	}
	return n
}

func with(r record) func(*corev1.Node) {
	return func(n *corev1.Node) {
		r.Migration = lo.CoalesceOrEmpty(r.Migration, "m")
		n.Annotations = map[string]string{v1alpha1.AnnotationNodeMigration: r.encode()}
		n.Spec.Unschedulable = true
	}
}

// draining since, with ReplicaSet web on record.
func draining(since time.Duration, ready int32) func(*corev1.Node) {
	at := metav1.NewTime(start.Add(-since))
	return with(record{CordonedAt: &at, Since: &at, Owners: []owner{{Kind: "ReplicaSet", Namespace: "default", Name: "web", Ready: ready}}})
}

func drained(n *corev1.Node) {
	at := metav1.NewTime(start)
	with(record{CordonedAt: &at, Since: &at, Drained: &at})(n)
}

func pod(name, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "default", UID: types.UID(name), Labels: map[string]string{"app": "web"}, CreationTimestamp: metav1.NewTime(start.Add(-time.Hour)),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "web", Controller: lo.ToPtr(true)}},
		},
		Spec:   corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func ownedBy(kind, name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences[0].Kind, p.OwnerReferences[0].Name, p.OwnerReferences[0].UID = kind, name, types.UID(name)
	}
}

func uncontrolled(p *corev1.Pod) { p.OwnerReferences = nil }

func ending(p *corev1.Pod) { p.DeletionTimestamp = lo.ToPtr(metav1.NewTime(start)) }

func controllersOwn(p *corev1.Pod) {
	p.Namespace, p.Spec.ServiceAccountName = account.Namespace, account.Name
	ownedBy("ReplicaSet", "controller")(p)
}

func waits(created time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.CreationTimestamp = metav1.NewTime(start.Add(-created))
		p.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}}
	}
}

func pdb(allowed int32) policyv1.PodDisruptionBudget {
	return policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
		Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed},
	}
}

func full() v1alpha1.PodNetwork {
	network := v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	network.StatusConditions().SetFalse(v1alpha1.ConditionCapacityAvailable, "PodSubnetsFull", "no free /28")
	return network
}

var anyPool = karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "any"}}

// outcome of a plan, short enough for a table.
type outcome struct {
	begin, cordon, finish, release, evict []string
	phase                                 v1alpha1.MigrationPhase
	reason, pause                         string
}

func outcomeOf(p *Plan) outcome {
	o := outcome{phase: p.Status.Phase, reason: p.Status.Reason}
	for _, m := range p.Marks {
		if m.Begins && m.Record.Since != nil {
			o.begin = append(o.begin, m.Node.Name)
		} else {
			o.cordon = append(o.cordon, m.Node.Name)
		}
	}
	for _, m := range p.Finish {
		o.finish = append(o.finish, m.Node.Name)
	}
	for _, r := range p.Release {
		o.release = append(o.release, fmt.Sprintf("%s %t", r.Node.Name, r.Uncordon))
	}
	for _, pod := range p.Evict {
		o.evict = append(o.evict, pod.Name)
	}
	if p.Status.Pause != nil {
		o.pause = p.Status.Pause.Reason
	}
	return o
}

func TestWhatAMigrationDoesNext(t *testing.T) {
	const (
		progressing = v1alpha1.MigrationProgressing
		waiting     = v1alpha1.MigrationWaiting
		paused      = v1alpha1.MigrationPaused
		complete    = v1alpha1.MigrationComplete
	)
	old := func(names ...string) (nodes []*corev1.Node) {
		for _, name := range names {
			nodes = append(nodes, node(name, "old"))
		}
		return nodes
	}
	pools := []karpv1.NodePool{anyPool}
	for name, test := range map[string]struct {
		spec func(*v1alpha1.NodeMigrationSpec)
		view View
		want outcome
	}{
		"begins with as many nodes as the budget has": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.MaxUnavailable = intstr.FromInt32(2) },
			view: View{Nodes: old("a", "b", "c")},
			want: outcome{begin: []string{"a", "b"}, phase: progressing, reason: "Draining"},
		},
		"a share of the nodes is rounded down": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.MaxUnavailable = intstr.FromString("50%") },
			view: View{Nodes: old("a", "b", "c", "d", "e")},
			want: outcome{begin: []string{"a", "b"}, phase: progressing, reason: "Draining"},
		},
		"and is at least one node": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.MaxUnavailable = intstr.FromString("1%") },
			view: View{Nodes: old("a", "b")},
			want: outcome{begin: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"other nodes are left alone": {
			view: View{Nodes: []*corev1.Node{node("a", "new")}},
			want: outcome{phase: v1alpha1.MigrationPending, reason: "NoNodes"},
		},
		"nodes of Karpenter are refused, by label and by claim": {
			view: View{Nodes: []*corev1.Node{
				node("a", "old", func(n *corev1.Node) { n.Labels[karpv1.NodePoolLabelKey] = "any" }),
				node("b", "old", func(n *corev1.Node) { n.Spec.ProviderID = "aws:///z/i-1" }),
				node("c", "old", func(n *corev1.Node) { n.OwnerReferences = []metav1.OwnerReference{{Kind: "NodeClaim"}} }),
			}, Claimed: map[string]bool{"aws:///z/i-1": true}},
			want: outcome{phase: v1alpha1.MigrationPending, reason: "NoNodes"},
		},
		"a node that joined later is not old": {
			view: View{Nodes: []*corev1.Node{node("a", "old", func(n *corev1.Node) { n.CreationTimestamp = metav1.NewTime(start.Add(time.Second)) })}},
			want: outcome{phase: v1alpha1.MigrationPending, reason: "NoNodes"},
		},
		"a node of another migration is its own": {
			view: View{Nodes: []*corev1.Node{node("a", "old", with(record{Migration: "other"}))}},
			want: outcome{phase: v1alpha1.MigrationPending, reason: "NoNodes"},
		},
		"pods are evicted when their owners are on record": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 2))}, Pods: []*corev1.Pod{pod("p", "a"), pod("q", "a")}},
			want: outcome{evict: []string{"p", "q"}, phase: progressing, reason: "Draining"},
		},
		"owners come on record first": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 1))}, Pods: []*corev1.Pod{pod("p", "a", ownedBy("StatefulSet", "db"))}},
			want: outcome{cordon: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"DaemonSets', static and finished pods stay": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 0))}, Pods: []*corev1.Pod{
				pod("p", "a", ownedBy("DaemonSet", "ds")),
				pod("q", "a", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }),
				pod("r", "a", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
			}},
			want: outcome{finish: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"a pod that tolerates the cordon and came back stays": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 1))}, Pods: []*corev1.Pod{pod("p", "a", func(p *corev1.Pod) {
				p.CreationTimestamp = metav1.NewTime(start)
				p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
			})}},
			want: outcome{finish: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"a node is not done while pods end": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 0))}, Pods: []*corev1.Pod{pod("p", "a", ending)}},
			want: outcome{phase: progressing, reason: "Draining"},
		},
		"pods of a node that does not answer are given up after their grace period": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 0), func(n *corev1.Node) { n.Status.Conditions = nil })},
				Pods: []*corev1.Pod{pod("p", "a", func(p *corev1.Pod) { p.DeletionTimestamp = lo.ToPtr(metav1.NewTime(start.Add(-2 * time.Minute))) })}},
			want: outcome{finish: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"a node is not done at the moment it is cordoned": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Second, 0))}},
			want: outcome{phase: progressing, reason: "Draining"},
		},
		"the next node waits until replicas are Ready elsewhere": {
			view: View{Nodes: append(old("b"), node("a", "old", draining(time.Minute, 2))), Pods: []*corev1.Pod{pod("p", "b")},
				Desired: map[owner]int32{{Kind: "ReplicaSet", Namespace: "default", Name: "web"}: 2}},
			want: outcome{phase: progressing, reason: "Draining"},
		},
		"not for replicas that nobody wants any more": {
			view: View{Nodes: append(old("b"), node("a", "old", draining(time.Minute, 2))), Pods: []*corev1.Pod{pod("p", "b")},
				Desired: map[owner]int32{{Kind: "ReplicaSet", Namespace: "default", Name: "web"}: 1}},
			want: outcome{finish: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"nor for more than there were before": {
			view: View{Nodes: append(old("b"), node("a", "old", draining(time.Minute, 2))), Pods: []*corev1.Pod{pod("p", "b"), pod("q", "b")},
				Desired: map[owner]int32{{Kind: "ReplicaSet", Namespace: "default", Name: "web"}: 3}},
			want: outcome{finish: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"replicas on a node that is drained too are not elsewhere": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 1)), node("b", "old", draining(time.Minute, 1))}, Pods: []*corev1.Pod{pod("p", "b")}},
			want: outcome{evict: []string{"p"}, phase: progressing, reason: "Draining"},
		},
		"a budget without disruptions is waited for": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 1))}, Pods: []*corev1.Pod{pod("p", "a")}, Budgets: []policyv1.PodDisruptionBudget{pdb(0)}},
			want: outcome{phase: waiting, reason: "PodDisruptionBudget"},
		},
		"and pauses the migration when the time is over": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.MaxUnavailable = intstr.FromInt32(2) },
			view: View{Nodes: append(old("b"), node("a", "old", draining(time.Hour, 1))), Pods: []*corev1.Pod{pod("p", "a")}, Budgets: []policyv1.PodDisruptionBudget{pdb(0)}},
			want: outcome{phase: paused, reason: "PodDisruptionBudget", pause: "PodDisruptionBudget"},
		},
		"no more pods are evicted than a budget has": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 2))}, Pods: []*corev1.Pod{pod("p", "a"), pod("q", "a")}, Budgets: []policyv1.PodDisruptionBudget{pdb(1)}},
			want: outcome{evict: []string{"p"}, phase: progressing, reason: "Draining"},
		},
		"nodes that a budget holds come after others": {
			view: View{Nodes: old("a", "b"), Pods: []*corev1.Pod{pod("p", "a")}, Budgets: []policyv1.PodDisruptionBudget{pdb(0)}, Pools: pools},
			want: outcome{begin: []string{"b"}, phase: progressing, reason: "Draining"},
		},
		"several budgets for a pod are told": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 1))}, Pods: []*corev1.Pod{pod("p", "a")}, Budgets: []policyv1.PodDisruptionBudget{pdb(1), pdb(1)}},
			want: outcome{phase: waiting, reason: "PodDisruptionBudget"},
		},
		"a node that must not be disrupted waits": {
			view: View{Nodes: []*corev1.Node{node("a", "old", func(n *corev1.Node) { n.Annotations = map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"} })}},
			want: outcome{phase: waiting, reason: "DoNotDisrupt"},
		},
		"so does the node of such a pod, and others do not": {
			view: View{Nodes: old("a", "b"), Pools: pools, Pods: []*corev1.Pod{pod("p", "a", func(p *corev1.Pod) { p.Annotations = map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"} })}},
			want: outcome{begin: []string{"b"}, phase: progressing, reason: "Draining"},
		},
		"a node that is drained evicts nothing while one of its pods must not be disrupted": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 2))}, Pods: []*corev1.Pod{
				pod("p", "a", func(p *corev1.Pod) { p.Annotations = map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"} }), pod("q", "a"),
			}},
			want: outcome{phase: waiting, reason: "DoNotDisrupt"},
		},
		"a pod that nobody would make again waits": {
			view: View{Nodes: old("a"), Pools: pools, Pods: []*corev1.Pod{pod("p", "a", uncontrolled)}},
			want: outcome{phase: waiting, reason: "UncontrolledPod"},
		},
		"unless it may go": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.UncontrolledPods = v1alpha1.UncontrolledPodsEvict },
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Minute, 0))}, Pods: []*corev1.Pod{pod("p", "a", uncontrolled)}},
			want: outcome{evict: []string{"p"}, phase: progressing, reason: "Draining"},
		},
		"a pod without another place waits": {
			view: View{Nodes: old("a"), Pods: []*corev1.Pod{pod("p", "a")}},
			want: outcome{phase: waiting, reason: "NoOtherPlace"},
		},
		"a NodePool is a place": {
			view: View{Nodes: old("a"), Pods: []*corev1.Pod{pod("p", "a")}, Pools: pools},
			want: outcome{begin: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"a NodePool whose taint the pod does not tolerate is none": {
			view: View{Nodes: old("a"), Pods: []*corev1.Pod{pod("p", "a")}, Pools: []karpv1.NodePool{{Spec: karpv1.NodePoolSpec{Template: karpv1.NodeClaimTemplate{
				Spec: karpv1.NodeClaimTemplateSpec{Taints: []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}},
			}}}}},
			want: outcome{phase: waiting, reason: "NoOtherPlace"},
		},
		"a full node is no place": {
			view: View{Nodes: append(old("a"), node("n", "new", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("0") })), Pods: []*corev1.Pod{pod("p", "a")}},
			want: outcome{phase: waiting, reason: "NoOtherPlace"},
		},
		"the last node of a cluster stays, though there is a NodePool, while it alone can run the controller": {
			view: View{Nodes: old("a"), Pods: []*corev1.Pod{pod("p", "a", controllersOwn)}, Pools: pools},
			want: outcome{phase: waiting, reason: "NoOtherPlace"},
		},
		"the controller's nodes are last": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.MaxUnavailable = intstr.FromInt32(3) },
			view: View{Nodes: old("a", "b", "c"), Pods: []*corev1.Pod{pod("p", "a", controllersOwn)}},
			want: outcome{begin: []string{"b", "c"}, phase: progressing, reason: "Draining"},
		},
		"also when another node could take it now": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.MaxUnavailable = intstr.FromInt32(3) },
			view: View{Nodes: append(old("a", "b"), node("n", "new")), Pods: []*corev1.Pod{pod("p", "a", controllersOwn)}},
			want: outcome{begin: []string{"b"}, phase: progressing, reason: "Draining"},
		},
		"and go one at a time when a Ready node can take it": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.MaxUnavailable = intstr.FromInt32(3) },
			view: View{Nodes: append(old("a", "b"), node("n", "new")), Pods: []*corev1.Pod{pod("p", "a", controllersOwn), pod("q", "b", controllersOwn)}},
			want: outcome{begin: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"cordons all at the start when asked to, but the controller's": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.Cordon = v1alpha1.CordonAll },
			view: View{Nodes: append(old("a", "b", "c"), node("n", "new")), Pods: []*corev1.Pod{pod("p", "a", controllersOwn)}},
			want: outcome{begin: []string{"b"}, cordon: []string{"c"}, phase: progressing, reason: "Draining"},
		},
		"does not cordon the last place of a pod": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.Cordon = v1alpha1.CordonAll },
			view: View{Nodes: old("a", "b"), Pods: []*corev1.Pod{pod("p", "a"), pod("q", "b")}},
			want: outcome{begin: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"the user's pause stops all": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.Paused = true; s.MaxUnavailable = intstr.FromInt32(2) },
			view: View{Nodes: append(old("b"), node("a", "old", draining(time.Minute, 1))), Pods: []*corev1.Pod{pod("p", "a")}},
			want: outcome{phase: paused, reason: "UserRequested", pause: "UserRequested"},
		},
		"a full pod network pauses": {
			view: View{Nodes: old("a"), Networks: []v1alpha1.PodNetwork{full()}},
			want: outcome{phase: paused, reason: "PodNetworkCapacity", pause: "PodNetworkCapacity"},
		},
		"a replacement that stays pending pauses": {
			view: View{Nodes: append(old("b"), node("a", "old", draining(time.Hour, 1))), Pods: []*corev1.Pod{pod("p", "", waits(10*time.Minute))}},
			want: outcome{phase: paused, reason: "PodsPending", pause: "PodsPending"},
		},
		"so does one that is bound and gets no address": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Hour, 1)), node("n", "new")}, Pods: []*corev1.Pod{pod("p", "n", waits(10*time.Minute))}},
			want: outcome{phase: paused, reason: "PodsPending", pause: "PodsPending"},
		},
		"and any pod that could run on a node that is kept cordoned": {
			view: View{Nodes: append(old("b"), node("a", "old", draining(time.Hour, 0))), Pods: []*corev1.Pod{pod("p", "", waits(10*time.Minute), ownedBy("ReplicaSet", "other"))}},
			want: outcome{phase: paused, reason: "PodsPending", pause: "PodsPending"},
		},
		"not one that waited before": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.Timeouts.Eviction.Duration = 2 * time.Hour },
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Hour, 0)), node("b", "old")}, Pods: []*corev1.Pod{pod("p", "", waits(90*time.Minute))}},
			want: outcome{finish: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"nor one that no cordoned node could take": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Hour, 0)), node("b", "old")}, Pods: []*corev1.Pod{
				pod("p", "", waits(10*time.Minute), ownedBy("ReplicaSet", "other"), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"gpu": "yes"} }),
			}},
			want: outcome{finish: []string{"a"}, phase: progressing, reason: "Draining"},
		},
		"a pod that does not end pauses when the time is over": {
			view: View{Nodes: []*corev1.Node{node("a", "old", draining(time.Hour, 0))}, Pods: []*corev1.Pod{pod("p", "a", ending)}},
			want: outcome{phase: paused, reason: "EvictionTimeout", pause: "EvictionTimeout"},
		},
		"replicas that never come up pause when the time is over": {
			view: View{Nodes: append(old("b"), node("a", "old", draining(time.Hour, 1)))},
			want: outcome{phase: paused, reason: "ReplicasNotReady", pause: "ReplicasNotReady"},
		},
		"stop lets go of all nodes, and uncordons those that the migration cordoned": {
			spec: func(s *v1alpha1.NodeMigrationSpec) { s.Stop = true },
			view: View{Nodes: []*corev1.Node{node("a", "old", drained), node("b", "old", draining(0, 0)), node("c", "old", with(record{})),
				node("d", "old", with(record{CordonedAt: lo.ToPtr(metav1.NewTime(start)), Terminated: true})), node("e", "old", with(record{Migration: "other"})), node("f", "old")}},
			want: outcome{release: []string{"a true", "b true", "c false", "d false"}, phase: v1alpha1.MigrationStopped, reason: "Stopped"},
		},
		"a node that the selector no longer picks is let go": {
			view: View{Nodes: []*corev1.Node{node("a", "kept", draining(time.Minute, 0)), node("b", "old", drained)}},
			want: outcome{release: []string{"a true"}, phase: complete, reason: "Completed"},
		},
		"all nodes done is the end": {
			view: View{Nodes: []*corev1.Node{node("a", "old", drained), node("b", "new")}},
			want: outcome{phase: complete, reason: "Completed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.view.Now, test.view.Controller = start, account
			test.view.Migration = migration(lo.Ternary(test.spec != nil, test.spec, func(*v1alpha1.NodeMigrationSpec) {}))
			plan, err := Decide(&test.view)
			require.NoError(t, err)
			require.Equal(t, test.want, outcomeOf(plan))
		})
	}
}

func TestNodesThatHaveGoneAreDone(t *testing.T) {
	m := migration()
	m.Status.Nodes = v1alpha1.MigratedNodes{Total: 5, Done: 2, Gone: 1}
	plan, err := Decide(&View{Now: start, Migration: m, Nodes: []*corev1.Node{node("a", "old"), node("b", "old", drained)}})
	require.NoError(t, err)
	require.Equal(t, v1alpha1.MigratedNodes{Total: 5, Gone: 3, Done: 4, Draining: 1}, plan.Status.Nodes)

	m.Status.NodeSelector = "group=older" // what the present one does not pick has not gone
	plan, err = Decide(&View{Now: start, Migration: m, Nodes: []*corev1.Node{node("a", "old"), node("b", "old", drained)}})
	require.NoError(t, err)
	require.Equal(t, v1alpha1.MigratedNodes{Total: 3, Gone: 1, Done: 2, Draining: 1}, plan.Status.Nodes)
}

// TestMigrationsOfAnyClusterKeepTheirWord carries plans out on clusters that chance made.
func TestMigrationsOfAnyClusterKeepTheirWord(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newCluster(rand.New(rand.NewPCG(seed, 1)))
			for range 2000 {
				plan, err := Decide(w.view())
				require.NoError(t, err)
				w.check(t, plan)
				if plan.Status.Phase == v1alpha1.MigrationComplete {
					break
				}
				w.carryOut(plan)
			}
			plan, err := Decide(w.view())
			require.NoError(t, err)
			require.Equal(t, v1alpha1.MigrationComplete, plan.Status.Phase, "%+v", plan.Status)
			for _, p := range w.pods {
				require.NotContains(t, w.old, p.Spec.NodeName, "pod %s is on an old node", p.Name)
			}
		})
	}
}

// cluster has a ReplicaSet with a budget for each application, new nodes, old nodes, Karpenter's and somebody else's.
type cluster struct {
	*rand.Rand
	now       time.Time
	migration *v1alpha1.NodeMigration
	nodes     []*corev1.Node
	old       []string
	pods      []*corev1.Pod
	replicas  map[string]int
	made      int
}

func newCluster(r *rand.Rand) *cluster {
	w := &cluster{Rand: r, now: start, replicas: map[string]int{}}
	w.migration = migration(func(s *v1alpha1.NodeMigrationSpec) {
		s.MaxUnavailable = intstr.FromInt32(1 + r.Int32N(4))
		if r.IntN(2) == 0 {
			s.MaxUnavailable = intstr.FromString(fmt.Sprintf("%d%%", 1+r.IntN(100)))
		}
		s.Cordon = lo.Ternary(r.IntN(2) == 0, v1alpha1.CordonAll, v1alpha1.CordonDraining)
	})
	for i := range 1 + r.IntN(8) {
		w.old = append(w.old, fmt.Sprintf("old-%d", i))
		w.nodes = append(w.nodes, node(w.old[i], "old"))
	}
	for i := range 1 + r.IntN(3) {
		w.nodes = append(w.nodes, node(fmt.Sprintf("new-%d", i), "new"))
		w.nodes = append(w.nodes, node(fmt.Sprintf("karpenter-%d", i), "old", func(n *corev1.Node) {
			n.Labels[karpv1.NodePoolLabelKey] = "any"
			n.Spec.Unschedulable = true // so that no pod of the test is there
		}))
	}
	for i := range 1 + r.IntN(5) {
		app := fmt.Sprintf("app-%d", i)
		w.replicas[app] = 2 + r.IntN(6)
	}
	for len(w.missing()) > 0 {
		w.schedule()
	}
	return w
}

func (w *cluster) missing() (apps []string) {
	for _, app := range slices.Sorted(func(yield func(string) bool) {
		for app := range w.replicas {
			if !yield(app) {
				return
			}
		}
	}) {
		if w.count(app) < w.replicas[app] {
			apps = append(apps, app)
		}
	}
	return apps
}

func (w *cluster) count(app string) int {
	return lo.CountBy(w.pods, func(p *corev1.Pod) bool { return p.Labels["app"] == app })
}

// schedule one missing replica of each application somewhere.
func (w *cluster) schedule() {
	open := lo.Filter(w.nodes, func(n *corev1.Node, _ int) bool { return !n.Spec.Unschedulable })
	for _, app := range w.missing() {
		w.made++
		p := pod(fmt.Sprintf("%s-%d", app, w.made), open[w.IntN(len(open))].Name, ownedBy("ReplicaSet", app))
		p.Labels["app"], p.CreationTimestamp = app, metav1.NewTime(w.now)
		w.pods = append(w.pods, p)
	}
}

func (w *cluster) allowed(app string) int32 { return int32(max(0, w.count(app)-w.replicas[app]+1)) }

func (w *cluster) view() *View {
	v := &View{Now: w.now, Migration: w.migration, Nodes: w.nodes, Pods: w.pods, Desired: map[owner]int32{}, Controller: account}
	for app, replicas := range w.replicas {
		v.Desired[owner{Kind: "ReplicaSet", Namespace: "default", Name: app}] = int32(replicas)
		b := pdb(w.allowed(app))
		b.Name, b.Spec.Selector = app, &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
		v.Budgets = append(v.Budgets, b)
	}
	return v
}

func (w *cluster) check(t *testing.T, plan *Plan) {
	t.Helper()
	evictions := map[string]int32{}
	for _, p := range plan.Evict {
		evictions[p.Labels["app"]]++
		require.Contains(t, w.old, p.Spec.NodeName)
		node, _ := lo.Find(w.nodes, func(n *corev1.Node) bool { return n.Name == p.Spec.NodeName })
		require.True(t, node.Spec.Unschedulable, "pod %s is evicted from a node that is open", p.Name)
	}
	for app, n := range evictions {
		require.LessOrEqual(t, n, w.allowed(app), "evictions of %s", app)
	}
	inFlight := map[string]bool{}
	for _, n := range w.nodes {
		if r, _ := recordOf(n); r.inFlight() {
			inFlight[n.Name] = true
		}
	}
	for _, m := range append(slices.Clone(plan.Marks), plan.Finish...) {
		require.Contains(t, w.old, m.Node.Name)
		if m.Record.inFlight() {
			inFlight[m.Node.Name] = true
		}
	}
	require.LessOrEqual(t, len(inFlight), bound(w.migration.Spec.MaxUnavailable, len(w.old)))
	require.Empty(t, plan.Release)
	require.GreaterOrEqual(t, plan.Status.Nodes.Done, w.migration.Status.Nodes.Done, "progress is lost")
	require.Nil(t, plan.Status.Pause)
}

// carryOut the part of a plan that chance lets succeed, as when the controller is killed in the middle, and let time pass.
func (w *cluster) carryOut(plan *Plan) {
	for _, m := range append(slices.Clone(plan.Marks), plan.Finish...) {
		if w.IntN(4) == 0 {
			continue
		}
		i := slices.IndexFunc(w.nodes, func(n *corev1.Node) bool { return n.Name == m.Node.Name })
		changed := w.nodes[i].DeepCopy()
		metav1.SetMetaDataAnnotation(&changed.ObjectMeta, v1alpha1.AnnotationNodeMigration, m.Record.encode())
		changed.Spec.Unschedulable = true
		w.nodes[i] = changed
	}
	for _, p := range plan.Evict {
		if w.IntN(4) != 0 {
			w.pods = slices.DeleteFunc(w.pods, func(q *corev1.Pod) bool { return p.UID == q.UID })
		}
	}
	if w.IntN(2) == 0 {
		w.schedule()
	}
	w.migration.Status.Nodes = plan.Status.Nodes
	w.now = w.now.Add(time.Second)
}
