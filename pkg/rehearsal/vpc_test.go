// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

func cidrs(texts ...string) []netip.Prefix {
	return lo.Map(texts, func(text string, _ int) netip.Prefix { return netip.MustParsePrefix(text) })
}

func TestTheFewestCIDRsSayWhatIsTaken(t *testing.T) {
	for name, test := range map[string]struct{ in, want []netip.Prefix }{
		"nothing":              {nil, nil},
		"halves":               {cidrs("10.0.0.1/32", "10.0.0.0/32"), cidrs("10.0.0.0/31")},
		"neighbours":           {cidrs("10.0.0.1/32", "10.0.0.2/32"), cidrs("10.0.0.1/32", "10.0.0.2/32")},
		"halves of halves":     {cidrs("10.0.0.0/29", "10.0.0.8/30", "10.0.0.12/30"), cidrs("10.0.0.0/28")},
		"one inside the other": {cidrs("10.0.0.16/28", "10.0.0.20/32", "10.0.0.16/28"), cidrs("10.0.0.16/28")},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, fewest(test.in)) })
	}
}

func TestASubnetIsFilledWithExactlyWhatIsTaken(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	subnet := netip.MustParsePrefix("10.0.4.0/22")
	for range 200 {
		want := map[netip.Addr]bool{}
		var taken []netip.Prefix
		for range random.IntN(60) {
			bits := 24 + random.IntN(9)
			a := subnet.Addr().As4()
			a[2], a[3] = a[2]+byte(random.IntN(4)), byte(random.IntN(256))
			p := netip.PrefixFrom(netip.AddrFrom4(a), bits).Masked()
			taken = append(taken, p)
			for _, address := range addresses(p) {
				if !slices.Contains(kept(subnet), address) {
					want[address] = true
				}
			}
		}
		got := map[netip.Addr]bool{}
		take := func(a netip.Addr) {
			require.False(t, got[a], "%s is taken twice", a)
			got[a] = true
		}
		for _, f := range fill(units(subnet, fewest(taken))) {
			require.LessOrEqual(t, len(f.addresses)+len(f.prefixes), slots)
			take(f.first)
			for _, a := range f.addresses {
				take(a)
			}
			for _, p := range f.prefixes {
				require.Equal(t, podnetwork.BlockBits, p.Bits())
				for _, a := range addresses(p) {
					take(a)
				}
			}
		}
		require.Equal(t, want, got)
	}
}

func TestNamesAreMappedAndPutBack(t *testing.T) {
	m := mapZones([]string{"eu-west-1a", "eu-west-1b"}, []string{"us-east-1a", "us-east-1b", "us-east-1c"})
	require.Equal(t, mapping{"eu-west-1a": "us-east-1a", "eu-west-1b": "us-east-1b", "eu-west-1": "us-east-1"}, m)
	m["subnet-1"] = "subnet-2"
	m["subnet-2"] = "subnet-1"
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "eu-west-1a", Labels: map[string]string{"subnet-1": "subnet-2", "subnet-2": "of subnet-1", corev1.LabelTopologyRegion: "eu-west-1"}}}
	mapped, err := m.object(node)
	require.NoError(t, err)
	require.Equal(t, "us-east-1a", mapped.GetName())
	require.Equal(t, map[string]string{"subnet-2": "subnet-1", "subnet-1": "of subnet-1", corev1.LabelTopologyRegion: "us-east-1"}, mapped.GetLabels(), "only whole strings")
	require.Equal(t, "subnet-1 of eu-west-1a in eu-west-1", m.back("subnet-2 of us-east-1a in us-east-1"))

	here := mapZones([]string{"us-east-1b", "us-west-2a"}, []string{"us-east-1a", "us-east-1b"})
	require.Equal(t, "us-east-1b", here.of("us-east-1b"), "where the stage has the zone it is itself")
	require.Equal(t, "us-east-1a", here.of("us-west-2a"))
}

func drift(claim karpv1.NodeClaim) karpv1.NodeClaim {
	claim.StatusConditions().SetTrue(karpv1.ConditionTypeInitialized)
	claim.StatusConditions().SetTrueWithReason(karpv1.ConditionTypeDrifted, "PodNetworkDrifted", "old")
	return claim
}

func TestWhatAMigrationWaitsFor(t *testing.T) {
	c := small(t)
	c.Budgets[0].Status.ObservedGeneration = 1
	v := &view{pools: c.NodePools, budgets: c.Budgets}
	for _, name := range []string{"a", "b", "c", "d"} {
		v.claims = append(v.claims, drift(karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{karpv1.NodePoolLabelKey: "default"}}, Status: karpv1.NodeClaimStatus{NodeName: name}}))
		v.nodes = append(v.nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	reasons := func() []string { return lo.Map(v.waits(0), func(w Wait, _ int) string { return w.Reason }) }
	require.Equal(t, []string{WaitKarpenter}, reasons(), "nothing is under way, and the budget allows 2 of 4")

	v.nodes[0].Spec.Taints = []corev1.Taint{{Key: karpv1.DisruptedTaintKey}}
	require.Equal(t, []string{WaitKarpenter}, reasons())
	v.nodes[1].DeletionTimestamp = &metav1.Time{}
	require.Equal(t, []Wait{{Reason: WaitBudget, Object: "NodePool default", Message: "no more than 2 of its nodes at a time"}}, v.waits(0))

	v.pods = []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{"app": "web"}}, Spec: corev1.PodSpec{NodeName: "a"}}}
	require.Equal(t, []string{WaitBudget, WaitPDB}, reasons())
	v.budgets[0].Status.DisruptionsAllowed = 1
	require.Equal(t, []string{WaitBudget}, reasons())

	v.pods[0].Spec.NodeName, v.pods[0].Annotations = "c", map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"}
	require.Equal(t, []string{WaitBudget, WaitDoNotDisrupt}, reasons())

	v.pods[0].Spec.NodeName = ""
	v.claims = append(v.claims, karpv1.NodeClaim{})
	require.Equal(t, []string{WaitBudget, WaitNodes, WaitPods}, reasons())
	v.claims[0].DeletionTimestamp = &metav1.Time{}
	require.Equal(t, []string{WaitBudget, WaitNodes, WaitEnding}, lo.Map(v.waits(1), func(w Wait, _ int) string { return w.Reason }), "one pod had no node before")
}

func TestANodeMigrationIsOverWhenOnlyTheStagesOwnNodesAreLeft(t *testing.T) {
	migration := v1alpha1.NodeMigration{Status: v1alpha1.NodeMigrationStatus{
		Phase: v1alpha1.MigrationWaiting, Nodes: v1alpha1.MigratedNodes{Total: 3, Done: 1},
		NodeStatuses: []v1alpha1.NodeMigrationNode{{Name: "stage", Phase: v1alpha1.NodePending}, {Name: "a", Phase: v1alpha1.NodeDone}, {Name: "b", Phase: v1alpha1.NodePending}},
		Blocked:      []v1alpha1.MigrationBlock{{Node: "stage", Reason: "DoNotDisrupt", Message: "no"}, {Node: "b", Reason: "PodDisruptionBudget", Message: "not now"}},
	}}
	v := &view{own: map[string]bool{"stage": true}, migrations: []v1alpha1.NodeMigration{migration}}
	require.Equal(t, 1, v.toMigrate())
	require.False(t, v.complete())
	require.Equal(t, []string{"NodeMigration  is Waiting: 1 of 2 nodes are done", "NodeMigration : PodDisruptionBudget: not now"}, v.blocked())

	v.migrations[0].Status.Nodes.Done = 2
	require.Zero(t, v.toMigrate())
	require.True(t, v.complete())
	require.Empty(t, v.blocked())
}
