// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

const burst = 100

// checkAgent takes a sysctl away from a node, as other programs do, and waits for the agent to set it again.
func checkAgent(ctx context.Context, t *testing.T) {
	daemonSet, err := client.AppsV1().DaemonSets(systemNamespace).Get(ctx, "dovetail-agent", metav1.GetOptions{})
	require.NoError(t, err)
	security := daemonSet.Spec.Template.Spec.Containers[0].SecurityContext
	require.Nil(t, security.Privileged)
	require.Equal(t, &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}}, security.Capabilities)
	nodes, err := sandbox.Nodes(ctx)
	require.NoError(t, err)
	const file = "/proc/sys/net/ipv4/ip_forward"
	instance := nodes[0].InstanceID
	_, err = sandbox.OnNode(ctx, instance, "sh", "-c", "echo 0 >"+file)
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		value, err := sandbox.OnNode(ctx, instance, "cat", file)
		require.NoError(c, err)
		require.Equal(c, "1", strings.TrimSpace(value))
	}, stepDeadline, tick)
}

// upgradeInABurst replaces definitions, controller and agents by those of this commit while a hundred pods start on the nodes.
func upgradeInABurst(ctx context.Context, t *testing.T) {
	_, err := sandbox.Dovetail(ctx, "load", filepath.Join(binDir, "images.tar"))
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join(binDir, "tag"))
	require.NoError(t, err)
	tag := strings.TrimSpace(string(content))
	require.NotContains(t, strings.Join(agentImages(ctx, t), " "), ":"+tag)

	nodes, err := sandbox.Nodes(ctx)
	require.NoError(t, err)
	createBurst(ctx, t)
	_, err = helm(ctx, "upgrade", "dovetail-crd", "../../charts/dovetail-crd", "--namespace", systemNamespace, "--reset-then-reuse-values")
	require.NoError(t, err)
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := helm(ctx, "upgrade", "dovetail", "../../charts/dovetail", "--namespace", systemNamespace, "--values", valuesFile(),
			"--set", "images.tag="+tag, "--wait", "--timeout", "4m")
		done <- err
	}()
	for replicas := burst / 10; ; { // a wave a node, so that pods start on nodes whose agent is away just then
		select {
		case err := <-done:
			require.NoError(t, err)
			ended := time.Now()
			scaleBurst(ctx, t, burst)
			pods := readyPods(ctx, t, "app=burst", burst)
			for _, image := range agentImages(ctx, t) {
				require.True(t, strings.HasSuffix(image, ":"+tag), image)
			}
			reportBurst(ctx, t, pods, began, ended, len(nodes))
			return
		case <-time.After(2 * time.Second):
			if replicas < burst {
				replicas += burst / 10
				scaleBurst(ctx, t, replicas)
			}
		}
	}
}

// createBurst makes the Deployment, of pods for nodes that there are.
func createBurst(ctx context.Context, t *testing.T) {
	labels := map[string]string{"app": "burst"}
	_, err := client.AppsV1().Deployments(namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "burst"},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](burst / 10),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: ptr.To[int64](1),
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
					Containers: []corev1.Container{{Name: "pause", Image: "registry.k8s.io/pause:3.10"}},
				},
			},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

func scaleBurst(ctx context.Context, t *testing.T, replicas int) {
	_, err := client.AppsV1().Deployments(namespace).Patch(ctx, "burst", types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas), metav1.PatchOptions{})
	require.NoError(t, err)
}

// reportBurst logs what the pods saw of the upgrade, and requires that no start failed.
func reportBurst(ctx context.Context, t *testing.T, pods []corev1.Pod, began, ended time.Time, nodes int) {
	during, longest := 0, time.Duration(0)
	for _, pod := range pods {
		for _, status := range pod.Status.ContainerStatuses {
			started := status.State.Running.StartedAt.Time // in whole seconds
			if !started.Before(began.Truncate(time.Second)) && started.Before(ended) {
				during++
			}
			longest = max(longest, started.Sub(pod.CreationTimestamp.Time))
		}
	}
	events, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=FailedCreatePodSandBox"})
	require.NoError(t, err)
	var failed []string
	for _, event := range events.Items {
		if strings.HasPrefix(event.InvolvedObject.Name, "burst-") {
			failed = append(failed, event.Message)
		}
	}
	t.Logf("upgrade of %d nodes: %.1fs; %d of %d pods started meanwhile, the slowest in %.0fs; %d failed", nodes, ended.Sub(began).Seconds(), during, len(pods), longest.Seconds(), len(failed))
	require.Greater(t, during, burst/2, "the burst missed the upgrade")
	require.Empty(t, failed)
}

// rollBack to the release before, while pods end and start, and then upgrade again.
func rollBack(ctx context.Context, t *testing.T) {
	before := agentImages(ctx, t)[0]
	scaleBurst(ctx, t, burst/2)
	_, err := helm(ctx, "rollback", "dovetail", "--namespace", systemNamespace, "--wait", "--timeout", "4m")
	require.NoError(t, err)
	require.NotContains(t, agentImages(ctx, t), before)
	scaleBurst(ctx, t, burst*3/4)
	readyPods(ctx, t, "app=burst", burst*3/4)
	pods := readyPods(ctx, t, "app=probed", 3)
	for i, pod := range pods {
		require.Equal(t, pod.Status.PodIP, netprobe(ctx, t, pod.Name, "dial", fmt.Sprintf("%s:%d", pods[(i+1)%len(pods)].Status.PodIP, webPort)))
	}
	_, err = helm(ctx, "rollback", "dovetail", "--namespace", systemNamespace, "--wait", "--timeout", "4m") // to the release before this one
	require.NoError(t, err)
	require.Contains(t, agentImages(ctx, t), before)
}

// agentImages of the agents that are not ending.
func agentImages(ctx context.Context, t *testing.T) (images []string) {
	pods, err := client.CoreV1().Pods(systemNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=agent"})
	require.NoError(t, err)
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil {
			images = append(images, pod.Spec.Containers[0].Image)
		}
	}
	require.NotEmpty(t, images)
	return images
}
