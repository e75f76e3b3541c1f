// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/charts"
	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/pendingpods"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// run a command line as a user does.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func pending(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// serviceAccount is what kube-controller-manager would make: no pod is admitted without it.
func serviceAccount(t *testing.T, c client.Client) {
	t.Helper()
	require.NoError(t, c.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}))
}

func TestCommandsSayWhatIsMissing(t *testing.T) {
	t.Run("no cluster is configured", func(t *testing.T) {
		t.Setenv("KUBECONFIG", "")
		t.Setenv("HOME", t.TempDir())
		_, err := run(t, "status")
		require.ErrorContains(t, err, "no cluster is configured: set KUBECONFIG")
	})
	t.Run("nobody answers", func(t *testing.T) {
		_, err := run(t, "status", "--server", "http://127.0.0.1:1")
		require.ErrorContains(t, err, "cannot be reached")
	})
	t.Run("Dovetail is not installed", func(t *testing.T) {
		c := useCluster(t, controlplanetest.Start(t))
		_, err := run(t, "status")
		require.ErrorContains(t, err, "install the chart dovetail-crd")
		for _, line := range []string{"capacity", "migrate status", "migrate status --watch", "migrate pause", "migrate start old -l a=b", "migrate stop old"} {
			_, err := run(t, strings.Fields(line)...)
			require.ErrorContains(t, err, "install the chart dovetail-crd", line)
		}
		require.NoError(t, c.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}))
		_, err = run(t, "node", "status", "node-1")
		require.ErrorContains(t, err, "node node-1 is on no pod network")
		_, err = run(t, "node", "status", "node-2")
		require.ErrorContains(t, err, "there is no node node-2")
		out, err := run(t, "doctor")
		require.Error(t, err)
		require.Contains(t, out, "the cluster does not have PodNetwork, ENIConfig, NodePool, NodeClaim, EC2NodeClass, NodeMigration")

		serviceAccount(t, c)
		require.NoError(t, c.Create(t.Context(), pending("alone")))
		out, err = run(t, "why", "alone")
		require.NoError(t, err, "why needs neither Dovetail nor Karpenter")
		require.Contains(t, out, "NoNodePool")
		_, err = run(t, "why", "nobody")
		require.ErrorContains(t, err, "there is no pod nobody in namespace default")
	})
}

func TestStatusAndWhyOnACluster(t *testing.T) {
	c := useCluster(t, chartstest.StartAPIServer(t))

	_, err := run(t, "status")
	require.ErrorContains(t, err, "there is no PodNetwork")

	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	require.NoError(t, c.Create(t.Context(), network))
	out, err := run(t, "status")
	require.NoError(t, err)
	require.Contains(t, out, "PodNetwork default: not looked at yet")
	network.Status.Zones = []v1alpha1.ZoneStatus{{
		Zone: "us-east-1a", ENIConfig: "us-east-1a", Subnet: "subnet-1", CIDR: "100.64.0.0/19", FreePrefixes: 256, FreeAddresses: 4200, CommittedPrefixes: 7, Nodes: 3, Pods: 60,
	}}
	network.Status.Nodes = v1alpha1.NodesStatus{Total: 3, Current: 2, Outdated: 1}
	network.StatusConditions().SetFalse(v1alpha1.ConditionMigrationComplete, "NodesOutdated", "1 of 3 nodes is old")
	require.NoError(t, c.Status().Update(t.Context(), network))

	out, err = run(t, "status")
	require.NoError(t, err)
	require.Contains(t, out, "nodes 3: 2 current, 1 outdated")
	require.Contains(t, out, "████████░░░░░░░░  256 of 512  249", "half of the /28s are free, 7 of them set aside")
	require.Contains(t, out, "MigrationComplete is False, NodesOutdated: 1 of 3 nodes is old")

	serviceAccount(t, c)
	pod := pending("web")
	require.NoError(t, c.Create(t.Context(), pod))
	now := metav1.NewTime(time.Now())
	require.NoError(t, c.Create(t.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: "web.1"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web", UID: pod.UID},
		Type:           corev1.EventTypeWarning, Reason: pendingpods.ReasonNoPodAddresses, Message: "subnet-1 has no free /28", FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}))
	out, err = run(t, "why", "web", "-o", "json")
	require.NoError(t, err)
	var answer diagnosis.Answer
	require.NoError(t, json.Unmarshal([]byte(out), &answer))
	require.Equal(t, diagnosis.CauseNoPodAddresses, answer.Cause())
	require.Equal(t, "subnet-1 has no free /28", answer.Findings[0].Message)
}

func TestDoctorOnACluster(t *testing.T) {
	c := useCluster(t, chartstest.StartAPIServer(t))
	require.NoError(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "dovetail-system"}}))
	objects, err := charts.Render(charts.Dovetail, charts.Release{Name: "dovetail", Namespace: "dovetail-system", Values: map[string]any{"settings": map[string]any{"clusterName": "test"}}})
	require.NoError(t, err)
	for _, object := range objects {
		require.NoError(t, c.Create(t.Context(), object), object.GetKind())
	}
	out, err := run(t, "doctor")
	require.Error(t, err)
	require.Contains(t, out, "✗ controller: Deployment dovetail-system/dovetail-controller has no available replica", "nothing makes pods here")
	require.Contains(t, out, "✓ controller's rights: as the chart grants them")

	controller := &appsv1.Deployment{}
	require.NoError(t, c.Get(t.Context(), client.ObjectKey{Namespace: "dovetail-system", Name: "dovetail-controller"}, controller))
	controller.Status.Replicas, controller.Status.AvailableReplicas, controller.Status.ReadyReplicas = 2, 2, 2
	require.NoError(t, c.Status().Update(t.Context(), controller))
	out, err = run(t, "doctor")
	require.Error(t, err)
	require.Contains(t, out, "no replica leads")

	require.NoError(t, c.Create(t.Context(), &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "dovetail-system", Name: "karpenter-leader-election"},
		Spec:       coordinationv1.LeaseSpec{RenewTime: &metav1.MicroTime{Time: time.Now()}},
	}))
	out, err = run(t, "doctor")
	require.NoError(t, err, out)

	role := &rbacv1.ClusterRole{}
	require.NoError(t, c.Get(t.Context(), client.ObjectKey{Name: "dovetail-controller"}, role))
	require.NoError(t, c.Delete(t.Context(), role))
	require.EventuallyWithT(t, func(collect *assert.CollectT) { // the API server's authorizer learns of it by a watch
		out, err = run(t, "doctor")
		require.Error(collect, err)
		require.Contains(collect, out, "patch podnetworks/status")
	}, time.Minute, 100*time.Millisecond)
}
