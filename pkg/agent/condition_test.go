// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/charts"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

func short(reason eni.Reason, message string) *pool.Shortage {
	return &pool.Shortage{Reason: string(reason), Message: message}
}

func TestANodeIsReadyAsLongAsABoundPodWouldGetAnAddress(t *testing.T) {
	full := short(eni.NoFreePrefix, "no /28 is left")
	for name, c := range map[string]struct {
		supply  supply
		ready   bool
		reason  eni.Reason
		message string
	}{
		"nothing is published yet":               {supply{}, false, starting, "first addresses"},
		"nothing is published, and why":          {supply{lacking: short(eniConfigMissing, "no ENIConfig")}, false, eniConfigMissing, "no ENIConfig"},
		"addresses are free":                     {supply{capacity: 16, free: 3}, true, addressesAvailable, "pods get addresses"},
		"all are used, and nobody waits":         {supply{capacity: 16}, true, addressesAvailable, "pods get addresses"},
		"all are used, and more come":            {supply{capacity: 16, waiting: 5}, true, addressesAvailable, "pods get addresses"},
		"short, and the free ones suffice":       {supply{capacity: 16, free: 3, waiting: 3, lacking: full}, true, addressesAvailable, "no /28 is left"},
		"short, and the free ones do not":        {supply{capacity: 16, free: 3, waiting: 4, lacking: full}, false, eni.NoFreePrefix, "no /28 is left"},
		"short, and cooling ones come back":      {supply{capacity: 16, cooling: 2, waiting: 1, lacking: full}, true, addressesAvailable, "no /28 is left"},
		"short, and none is left for the next":   {supply{capacity: 16, lacking: full}, false, eni.NoFreePrefix, "no /28 is left"},
		"the kernel is broken, though addresses": {supply{capacity: 16, free: 16, lacking: short(dataPathFailed, "nftables")}, false, dataPathFailed, "nftables"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.supply.condition()
			require.Equal(t, c.ready, got.Status == corev1.ConditionTrue)
			require.Equal(t, string(c.reason), got.Reason)
			require.Contains(t, got.Message, c.message)
		})
	}
}

func TestTheConditionIsWrittenWhenItChangesAndNowAndThen(t *testing.T) {
	now := time.Now()
	condition := func(status corev1.ConditionStatus, message string, age time.Duration) *corev1.NodeCondition {
		return &corev1.NodeCondition{Status: status, Reason: "R", Message: message, LastHeartbeatTime: metav1.NewTime(now.Add(-age))}
	}
	yes, no := corev1.ConditionTrue, corev1.ConditionFalse
	for name, c := range map[string]struct {
		before, wanted *corev1.NodeCondition
		since          time.Duration
		wait           time.Duration
	}{
		"none is there":                  {nil, condition(no, "a", 0), 0, 0},
		"the same":                       {condition(yes, "a", time.Minute), condition(yes, "a", 0), 0, conditionHeartbeat - time.Minute},
		"the same, of long ago":          {condition(yes, "a", conditionHeartbeat), condition(yes, "a", 0), 0, 0},
		"another message":                {condition(no, "a", 0), condition(no, "b", 0), 0, 0},
		"ready again":                    {condition(no, "a", 0), condition(yes, "b", 0), 0, 0},
		"not ready for a moment":         {condition(yes, "a", 0), condition(no, "b", 0), time.Second, conditionPatience - time.Second},
		"not ready for longer than that": {condition(yes, "a", 0), condition(no, "b", 0), conditionPatience, 0},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.wait, max(due(c.before, *c.wanted, now.Add(-c.since), now), 0))
		})
	}
}

func TestAddressesThatComeBackCountOnce(t *testing.T) {
	at := netip.MustParseAddr
	use := usage{
		leases:  []lease.Lease{{Address: at("100.64.0.17")}},
		cooling: []netip.Addr{at("100.64.0.17"), at("100.64.0.18"), at("100.64.0.99")},
	}
	require.Equal(t, 1, use.coolingIn([]netip.Prefix{netip.MustParsePrefix("100.64.0.16/28")}))
}

// asAgent has the rights that the chart gives.
func asAgent(t *testing.T, config *rest.Config) *rest.Config {
	t.Helper()
	c, err := client.New(config, client.Options{})
	require.NoError(t, err)
	const namespace = "dovetail-system"
	require.NoError(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	objects, err := charts.Render(charts.Dovetail, charts.Release{Name: "dovetail", Namespace: namespace, Values: map[string]any{
		"settings": map[string]any{"clusterName": "test"},
	}})
	require.NoError(t, err)
	for _, object := range objects {
		if kind := object.GetKind(); object.GetName() == "dovetail-agent" && (kind == "ClusterRole" || kind == "ClusterRoleBinding") {
			require.NoError(t, c.Create(t.Context(), object))
		}
	}
	config = rest.CopyConfig(config)
	config.Impersonate.UserName = "system:serviceaccount:" + namespace + ":dovetail-agent"
	return config
}

func TestTheConditionStandsBesideTheKubelets(t *testing.T) {
	ctx := t.Context()
	config := controlplanetest.Start(t)
	admin := kubernetes.NewForConfigOrDie(config)
	agent := kubernetes.NewForConfigOrDie(asAgent(t, config))
	long := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	kubelets := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: long, LastTransitionTime: long}
	_, err := admin.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{kubelets}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	get := func(ctx context.Context) (*corev1.Node, error) {
		return agent.CoreV1().Nodes().Get(ctx, "n", metav1.GetOptions{})
	}
	conditions := func(t require.TestingT) (ready, ours *corev1.NodeCondition) {
		node, err := get(ctx)
		require.NoError(t, err)
		return conditionOf(node, corev1.NodeReady), conditionOf(node, v1alpha1.ConditionPodNetworkReady)
	}

	w := newConditionWriter(agent, "n", get, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.run(ctx) }()
	t.Cleanup(func() { cancel(); <-stopped })

	written := func(c corev1.NodeCondition) *corev1.NodeCondition {
		w.set(verdict{condition: c})
		var ours *corev1.NodeCondition
		require.EventuallyWithT(t, func(collect *assert.CollectT) {
			_, ours = conditions(collect)
			require.NotNil(collect, ours)
			require.Equal(collect, c.Message, ours.Message)
		}, time.Minute, 50*time.Millisecond)
		return ours
	}
	first := written(supply{lacking: short(eni.Unauthorized, "the role lacks a right")}.condition())
	require.Equal(t, corev1.ConditionFalse, first.Status)
	require.Equal(t, string(eni.Unauthorized), first.Reason)
	second := written(supply{lacking: short(eni.SubnetFull, "the subnet is full")}.condition())
	require.Equal(t, first.LastTransitionTime, second.LastTransitionTime, "it is False still")
	require.Equal(t, corev1.ConditionTrue, written(supply{capacity: 16, free: 16}.condition()).Status)

	refused := func(value string) {
		t.Helper()
		w.set(verdict{condition: supply{capacity: 16, free: 16}.condition(), refused: value})
		require.EventuallyWithT(t, func(collect *assert.CollectT) {
			node, err := get(ctx)
			require.NoError(collect, err)
			require.Equal(collect, value, node.Annotations[v1alpha1.AnnotationPodSubnetRefused])
		}, time.Minute, 50*time.Millisecond)
	}
	refused("subnet=subnet-1,code=InsufficientCidrBlocks,at=2026-01-02T03:04:05Z")
	_, ours := conditions(t)
	require.Equal(t, corev1.ConditionTrue, ours.Status, "pods find addresses all the same")
	refused("")

	ready, _ := conditions(t)
	require.Equal(t, kubelets.LastHeartbeatTime.UTC(), ready.LastHeartbeatTime.UTC())
	ready.LastHeartbeatTime, ready.LastTransitionTime = kubelets.LastHeartbeatTime, kubelets.LastTransitionTime
	require.Equal(t, kubelets, *ready)

	node, err := get(ctx)
	require.NoError(t, err)
	node.Status.Conditions = []corev1.NodeCondition{kubelets}
	_, err = admin.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	require.NoError(t, err, "somebody wipes it")
	written(supply{capacity: 16, free: 16}.condition())
}
