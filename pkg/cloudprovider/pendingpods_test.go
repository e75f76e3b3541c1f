// SPDX-License-Identifier: Apache-2.0

package cloudprovider_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/controllers/pendingpods"
)

// pending creates a pod that the scheduler has found no node for.
func (r *region) pending(name string, spec corev1.PodSpec) {
	r.Helper()
	spec.Containers = []corev1.Container{{Name: "web", Image: "web"}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}, Spec: spec}
	require.NoError(r, r.Create(r.Context(), pod))
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}
	require.NoError(r, r.Status().Update(r.Context(), pod))
}

// nodePool launches on-demand nodes of the node class.
func (r *region) nodePool(name string, taints ...corev1.Taint) {
	r.Helper()
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	pool.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
	pool.Spec.Template.Spec.Taints = taints
	pool.Spec.Template.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
		{Key: karpv1.CapacityTypeLabelKey, Operator: corev1.NodeSelectorOpIn, Values: []string{karpv1.CapacityTypeOnDemand}},
	}
	pool.Spec.Disruption.ConsolidateAfter = karpv1.MustParseNillableDuration("Never")
	require.NoError(r, r.Create(r.Context(), pool))
	r.Cleanup(func() { require.NoError(r, client.IgnoreNotFound(r.Delete(context.Background(), pool))) })
}

func TestAPodThatWaitsForPodAddressesIsToldWhichSubnetsLackThem(t *testing.T) {
	r := newRegion(t, chartstest.StartAPIServer(t))
	require.NoError(t, r.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "default"}}))
	full := r.podSubnet("us-east-1a", "us-east-1a", "100.64.0.0/28") // 11 addresses: no node
	free := r.podSubnet("us-east-1b", "us-east-1b", "100.64.32.0/19")
	p := r.controller(time.Now().Add(-time.Minute))
	require.NoError(t, p.PodSubnets.Ensure(r.ctx(), full, free))
	recorder := record.NewFakeRecorder(100)
	c := pendingpods.NewController(pendingpods.Params{Client: r.Client, Provider: p, Recorder: events.NewRecorder(recorder), Clock: r.clock})
	look := func() (told []string) {
		_, err := c.Reconcile(r.ctx())
		require.NoError(t, err)
		for len(recorder.Events) > 0 {
			told = append(told, <-recorder.Events)
		}
		return told
	}
	zone := func(name string) map[string]string { return map[string]string{corev1.LabelTopologyZone: name} }
	r.nodePool("default")
	r.nodePool("tainted", corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoSchedule})
	r.pending("pinned-to-the-full-zone", corev1.PodSpec{NodeSelector: zone("us-east-1a")})
	r.pending("pinned-to-the-other", corev1.PodSpec{NodeSelector: zone("us-east-1b")})
	r.pending("anywhere", corev1.PodSpec{})
	r.pending("in-a-zone-of-none", corev1.PodSpec{NodeSelector: zone("us-east-1c")})
	r.pending("of-no-pool", corev1.PodSpec{NodeSelector: map[string]string{"team": "other"}})

	require.Empty(t, look(), "Karpenter has had no time for them")
	r.clock.Step(time.Minute)
	told := look()
	require.Len(t, told, 2, "those that other zones can serve, or no NodePool, wait for something else")
	for _, event := range told {
		require.Contains(t, event, "Warning NoPodAddresses no node is launched on pod network pods: ")
	}
	require.Contains(t, told, "Warning NoPodAddresses no node is launched on pod network pods: pod subnet "+full+" (zone us-east-1a, ENIConfig us-east-1a): "+
		"0 /28 blocks free, 0 of them set aside for nodes, 7 needed and 1 that single addresses may spoil: a subnet CIDR reservation of type prefix would keep them apart; "+
		"11 single addresses free, which are not enough for a node of them: 11 addresses free, 0 of them set aside for nodes, 20 needed")
	require.Contains(t, told, "Warning NoPodAddresses no node is launched on pod network pods: pod network pods has no usable ENIConfig that the NodeClaim allows: see the PodNetwork's conditions")

	require.Empty(t, look(), "once is enough for a while")
}

func TestAPodWhoseSpreadConstraintsLeaveOnlyAFullZoneIsTold(t *testing.T) {
	r := newRegion(t, chartstest.StartAPIServer(t))
	require.NoError(t, r.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "default"}}))
	full := r.podSubnet("us-east-1a", "us-east-1a", "100.64.0.0/28") // 11 addresses: too few for a node of single addresses too
	free := r.podSubnet("us-east-1b", "us-east-1b", "100.64.32.0/19")
	other := r.podSubnet("us-east-1c", "us-east-1c", "100.64.64.0/19")
	p := r.controller(time.Now().Add(-time.Minute))
	require.NoError(t, p.PodSubnets.Ensure(r.ctx(), full, free, other))
	recorder := record.NewFakeRecorder(100)
	c := pendingpods.NewController(pendingpods.Params{Client: r.Client, Provider: p, Recorder: events.NewRecorder(recorder), Clock: r.clock})
	r.nodePool("default")
	r.pending("spread", corev1.PodSpec{TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
	}}})
	r.clock.Step(time.Minute)
	_, err := c.Reconcile(r.ctx())
	require.NoError(t, err)
	require.Empty(t, recorder.Events, "other zones are as empty")

	for _, zone := range []string{"us-east-1b", "us-east-1c"} {
		require.NoError(t, r.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: zone, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}))
		for _, n := range []string{"-1", "-2"} {
			require.NoError(t, r.Create(t.Context(), &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: zone + n, Labels: map[string]string{"app": "web"}},
				Spec:       corev1.PodSpec{NodeName: zone, Containers: []corev1.Container{{Name: "web", Image: "web"}}},
			}))
		}
	}
	_, err = c.Reconcile(r.ctx())
	require.NoError(t, err)
	require.Len(t, recorder.Events, 1, "the others have two pods more than it")
	require.Contains(t, <-recorder.Events, "pod subnet "+full+" (zone us-east-1a, ENIConfig us-east-1a): 0 /28 blocks free")
}
