// SPDX-License-Identifier: Apache-2.0

package hollow_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/hollow"
)

const (
	maxPods   = 3
	answering = "registry.example/agent:v1"
)

func machine(i int) bootstrap.Machine {
	return bootstrap.Machine{
		Identity: bootstrap.Identity{
			InstanceID: fmt.Sprintf("i-%017d", i), InstanceType: "m5.large", Zone: "us-east-1a", Region: "us-east-1",
			Hostname: fmt.Sprintf("ip-10-0-0-%d.ec2.internal", i), IP: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}),
		},
		UserData: bootstrap.UserData{MaxPods: maxPods, Labels: map[string]string{"karpenter.sh/nodepool": "load"}},
		Hardware: bootstrap.Hardware{CPUs: 2, MemoryMiB: 8192, Architecture: "arm64"},
	}
}

func TestHollowNodesServePods(t *testing.T) {
	config := controlplanetest.Start(t)
	client := kubernetes.NewForConfigOrDie(config)
	nodes, err := hollow.New(config, func(image string) bool { return image == answering }, slog.Default())
	require.NoError(t, err)
	go func() { _ = nodes.Run(t.Context()) }()
	first, second := machine(11), machine(12)
	_, err = client.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	require.NoError(t, err)

	create := func(t *testing.T, name, node string, c corev1.Container) {
		t.Helper()
		c.Name = "only"
		_, err := client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.PodSpec{
				NodeName: node, AutomountServiceAccountToken: new(bool), TerminationGracePeriodSeconds: new(int64(3600)),
				Containers: []corev1.Container{c},
			},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	bound := func(t *testing.T, name, node string) {
		t.Helper()
		create(t, name, node, corev1.Container{Image: "registry.k8s.io/pause:3.10"})
	}
	remove := func(t *testing.T, name string, options metav1.DeleteOptions) {
		t.Helper()
		require.NoError(t, client.CoreV1().Pods("default").Delete(t.Context(), name, options))
	}
	gone := func(t *testing.T, name string) {
		t.Helper()
		eventually(t, func(c *assert.CollectT) {
			_, err := client.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
			require.True(c, apierrors.IsNotFound(err), "%v", err)
		})
	}
	pod := func(c require.TestingT, name string) *corev1.Pod {
		pod, err := client.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(c, err)
		return pod
	}

	t.Run("machines become Ready nodes with what their user data say, and a lease", func(t *testing.T) {
		nodes.Set(t.Context(), []bootstrap.Machine{first, second})
		eventually(t, func(c *assert.CollectT) {
			for _, m := range []bootstrap.Machine{first, second} {
				node, err := client.CoreV1().Nodes().Get(t.Context(), m.Hostname, metav1.GetOptions{})
				require.NoError(c, err)
				require.Equal(c, m.ProviderID(), node.Spec.ProviderID)
				require.Equal(c, "load", node.Labels["karpenter.sh/nodepool"])
				require.Equal(c, "arm64", node.Labels[corev1.LabelArchStable])
				require.Equal(c, "arm64", node.Status.NodeInfo.Architecture)
				require.Equal(c, int64(maxPods), node.Status.Allocatable.Pods().Value())
				require.True(c, ready(node))
				_, err = client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), m.Hostname, metav1.GetOptions{})
				require.NoError(c, err)
			}
		})
	})
	t.Run("bound pods run, each with an address of its own, until max-pods", func(t *testing.T) {
		addresses := map[string]bool{}
		for i := range maxPods {
			name := fmt.Sprintf("pod-%d", i)
			bound(t, name, first.Hostname)
			eventually(t, func(c *assert.CollectT) {
				status := pod(c, name).Status
				require.Equal(c, corev1.PodRunning, status.Phase)
				require.True(c, status.ContainerStatuses[0].Ready)
				addresses[status.PodIP] = true
			})
		}
		require.Len(t, addresses, maxPods)
		bound(t, "beyond", first.Hostname)
		eventually(t, func(c *assert.CollectT) {
			require.Equal(c, corev1.PodFailed, pod(c, "beyond").Status.Phase)
			require.Equal(c, "OutOfpods", pod(c, "beyond").Status.Reason)
		})
	})
	t.Run("a deleted pod is gone without its grace period, and leaves room", func(t *testing.T) {
		remove(t, "pod-0", metav1.DeleteOptions{})
		gone(t, "pod-0")
		bound(t, "pod-0", first.Hostname)
		eventually(t, func(c *assert.CollectT) { require.Equal(c, corev1.PodRunning, pod(c, "pod-0").Status.Phase) })
	})
	t.Run("a preStop hook that sleeps keeps a deleted pod, at most for its grace period", func(t *testing.T) {
		remove(t, "pod-0", metav1.DeleteOptions{})
		gone(t, "pod-0")
		create(t, "hooked", first.Hostname, corev1.Container{Image: "alpine", Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", "sleep 1800"}},
		}}})
		eventually(t, func(c *assert.CollectT) { require.Equal(c, corev1.PodRunning, pod(c, "hooked").Status.Phase) })
		remove(t, "hooked", metav1.DeleteOptions{})
		remove(t, "pod-1", metav1.DeleteOptions{})
		gone(t, "pod-1")
		require.NotNil(t, pod(t, "hooked").DeletionTimestamp)
		remove(t, "hooked", metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))})
		gone(t, "hooked")
	})
	t.Run("nobody answers readiness probes but the images that do", func(t *testing.T) {
		second := second.Hostname
		probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80)}}}
		create(t, "silent", second, corev1.Container{Image: "nginx", ReadinessProbe: probe})
		create(t, "agent", second, corev1.Container{Image: answering, ReadinessProbe: probe})
		for name, want := range map[string]bool{"silent": false, "agent": true} {
			eventually(t, func(c *assert.CollectT) {
				status := pod(c, name).Status
				require.Equal(c, corev1.PodRunning, status.Phase)
				require.Equal(c, want, status.ContainerStatuses[0].Ready)
				for _, condition := range status.Conditions {
					if condition.Type == corev1.PodReady {
						require.Equal(c, want, condition.Status == corev1.ConditionTrue)
					}
				}
			})
		}
	})
	t.Run("a pod that was bound before its node came runs when it comes", func(t *testing.T) {
		third := machine(13)
		bound(t, "early", third.Hostname)
		nodes.Set(t.Context(), []bootstrap.Machine{first, second, third})
		eventually(t, func(c *assert.CollectT) { require.Equal(c, corev1.PodRunning, pod(c, "early").Status.Phase) })
	})
	t.Run("a machine that ended serves no pods any more", func(t *testing.T) {
		nodes.Set(t.Context(), []bootstrap.Machine{second})
		bound(t, "late", first.Hostname)
		bound(t, "witness", second.Hostname)
		eventually(t, func(c *assert.CollectT) { require.Equal(c, corev1.PodRunning, pod(c, "witness").Status.Phase) })
		require.Equal(t, corev1.PodPending, pod(t, "late").Status.Phase)
	})
}

func ready(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// eventually waits for what other processes do. The deadline ends a test that hangs; it is no expectation.
func eventually(t *testing.T, f func(*assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, f, time.Minute, 50*time.Millisecond)
}
