// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/utils/ptr"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

const (
	systemNamespace = "kube-system"
	namespace       = "default"
	webPort         = 8080
	hostPort        = 18080
	tick            = 250 * time.Millisecond
)

// TestAUserInstallsRunsUpgradesAndUninstalls is one story: each step stands on those before.
func TestAUserInstallsRunsUpgradesAndUninstalls(t *testing.T) {
	var workload scenario.Workload
	var nodes []scenario.Node

	step(t, "Helm finds nothing to say against the charts", func(ctx context.Context, t *testing.T) {
		_, err := helm(ctx, "lint", "--strict", "../../charts/dovetail", "../../charts/dovetail-crd")
		require.NoError(t, err)
	})
	step(t, "Helm installs the charts", func(ctx context.Context, t *testing.T) {
		installCharts(ctx, t)
		require.NoError(t, sandbox.Remember(ctx))
	})
	step(t, "the examples' pods run on nodes with real kubelets", func(ctx context.Context, t *testing.T) {
		started := time.Now()
		_, err := sandbox.Apply(ctx)
		require.NoError(t, err)
		workload, err = sandbox.Workload(ctx)
		require.NoError(t, err)
		require.NoError(t, sandbox.WaitRunning(ctx, workload, nil))
		t.Logf("%d pods from pending to running: %.1fs", workload.Replicas, time.Since(started).Seconds())
		nodes, err = sandbox.Nodes(ctx)
		require.NoError(t, err)
		require.NoError(t, sandbox.CheckNodes(ctx, nodes))
		require.NoError(t, sandbox.CheckPods(ctx, workload, nodes))
		logReadiness(ctx, t)
	})
	step(t, "packets flow as on stand-ins", func(ctx context.Context, t *testing.T) {
		probes, err := sandbox.Connectivity(ctx, workload, nodes)
		require.NoError(t, err)
		require.NoError(t, scenario.CheckMatrix(probes))
	})
	step(t, "probes, logs, exec and a Service work", checkPods)
	step(t, "ports of nodes lead to pods on other ENIs", func(ctx context.Context, t *testing.T) {
		checkNodePorts(ctx, t, nodes)
	})
	step(t, "a burst of pods starts while the charts and images are upgraded", upgradeInABurst)
	step(t, "the agent does without privileges what it does to the kernel", checkAgent)
	step(t, "a rollback leaves every pod its network, and new pods get one", rollBack)
	step(t, "no container was restarted", func(ctx context.Context, t *testing.T) {
		pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		require.NoError(t, err)
		require.NotEmpty(t, pods.Items)
		for _, pod := range pods.Items {
			for _, status := range pod.Status.ContainerStatuses {
				assert.Zero(t, status.RestartCount, "%s: %s", pod.Name, status.Name)
			}
		}
	})
	step(t, "controllers and agents serve what dashboards and alerts ask for", checkMetrics)
	step(t, "nothing is left in the cluster and the account after the uninstallation", func(ctx context.Context, t *testing.T) {
		for _, name := range []string{"probed", "burst"} {
			require.NoError(t, client.AppsV1().Deployments(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
		}
		left, _, err := sandbox.ScaleToZero(ctx, workload, nil)
		require.NoError(t, err)
		require.True(t, left.None(), left.String())
		require.NoError(t, sandbox.Delete(ctx))
		uninstallCharts(ctx, t)
	})
	step(t, "nothing is left on the host when the sandbox ends", func(ctx context.Context, t *testing.T) {
		require.NoError(t, sandbox.Down(ctx))
		require.NoError(t, leftBehind())
	})
	step(t, "nothing is left on the host when a sandbox was killed while pods start, and another one ran in its place", func(ctx context.Context, t *testing.T) {
		require.NoError(t, up(ctx, previousDir))
		installCharts(ctx, t)
		_, err := sandbox.Apply(ctx)
		require.NoError(t, err)
		waitAnyRunning(ctx, t)
		kill(t)
		require.NoError(t, up(ctx, previousDir))
		require.NoError(t, sandbox.Down(ctx))
		require.NoError(t, leftBehind())
	})
}

// installCharts installs what a user has installed before, with the values that this sandbox needs.
func installCharts(ctx context.Context, t *testing.T) {
	values, err := sandbox.Dovetail(ctx, "values")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(valuesFile(), []byte(values), 0o600))
	_, err = helm(ctx, "install", "dovetail-crd", previousDir+"/charts/dovetail-crd", "--namespace", systemNamespace, "--wait")
	require.NoError(t, err)
	_, err = helm(ctx, "install", "dovetail", previousDir+"/charts/dovetail", "--namespace", systemNamespace, "--values", valuesFile(), "--wait", "--timeout", "2m")
	require.NoError(t, err)
}

// waitAnyRunning waits until the first of the examples' pods runs: others are starting then.
func waitAnyRunning(ctx context.Context, t *testing.T) {
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		running, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
		require.NoError(c, err)
		require.NotEmpty(c, running.Items)
	}, stepDeadline, tick)
}

func valuesFile() string { return filepath.Join(dir, "values.yaml") }

// logReadiness logs what the instances took from their launch to Ready. It is no assertion: machines differ.
func logReadiness(ctx context.Context, t *testing.T) {
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "karpenter.sh/nodepool"})
	require.NoError(t, err)
	for _, node := range list.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				t.Logf("%s registered %s, Ready %s", node.Name, node.CreationTimestamp.Format(time.TimeOnly), condition.LastTransitionTime.Format(time.TimeOnly))
			}
		}
	}
}

// checkPods runs a Deployment whose readiness and liveness the kubelet probes, and reaches it in every way.
func checkPods(ctx context.Context, t *testing.T) {
	image := imageOf(ctx, t, "netprobe")
	labels := map[string]string{"app": "probed"}
	_, err := client.AppsV1().Deployments(namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "probed"},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](3),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "web", Image: image, Args: []string{"listen", fmt.Sprintf("0.0.0.0:%d", webPort)}, Stdin: true,
					Ports: []corev1.ContainerPort{{ContainerPort: webPort, HostPort: hostPort}},
					ReadinessProbe: &corev1.Probe{
						ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(webPort)}},
						PeriodSeconds: 1,
					},
					LivenessProbe: &corev1.Probe{
						ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/ko-app/netprobe", "dial", fmt.Sprintf("127.0.0.1:%d", webPort)}}},
						PeriodSeconds: 5, TimeoutSeconds: 10,
					},
				}}},
			},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	service, err := client.CoreV1().Services(namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "probed"},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt(webPort)}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	pods := readyPods(ctx, t, "app=probed", 3)

	for i, pod := range pods {
		other := pods[(i+1)%len(pods)]
		require.Equal(t, pod.Status.PodIP, netprobe(ctx, t, pod.Name, "dial", fmt.Sprintf("%s:%d", other.Status.PodIP, webPort)),
			"exec: the other pod sees this pod's address")
		require.EventuallyWithT(t, func(c *assert.CollectT) { // kube-proxy hears of the endpoints a moment later
			require.NotEmpty(c, netprobe(ctx, c, pod.Name, "dial", service.Spec.ClusterIP+":80"), "exec: through the Service")
		}, stepDeadline, tick)
		require.NotEmpty(t, netprobe(ctx, t, pod.Name, "dial", fmt.Sprintf("%s:%d", other.Status.HostIP, hostPort)),
			"portmap, chained behind our plugin: through the port of the other pod's node")
		logs, err := client.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		require.NoError(t, err)
		require.Contains(t, string(logs), fmt.Sprintf("listening 0.0.0.0:%d", webPort))
	}
}

// readyPods waits until that many pods are Ready.
func readyPods(ctx context.Context, t *testing.T, selector string, n int) (ready []corev1.Pod) {
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		require.NoError(c, err)
		ready = nil
		for _, pod := range list.Items {
			for _, condition := range pod.Status.Conditions {
				if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
					ready = append(ready, pod)
				}
			}
		}
		require.Len(c, ready, n)
	}, stepDeadline, tick)
	return ready
}

// netprobe runs netprobe in a pod, and returns the first line that it prints.
func netprobe(ctx context.Context, t require.TestingT, pod string, args ...string) string {
	line, _, _ := strings.Cut(execNetprobe(ctx, t, pod, args...), "\n")
	return line
}

// execNetprobe runs netprobe in a pod through the API server, and returns what it prints.
func execNetprobe(ctx context.Context, t require.TestingT, pod string, args ...string) string {
	request := client.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: append([]string{"/ko-app/netprobe"}, args...), Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(config, "GET", request.URL().String())
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	require.NoError(t, executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}), stderr.String())
	return stdout.String()
}

// imageOf a program, beside those of Dovetail.
func imageOf(ctx context.Context, t *testing.T, name string) string {
	deployment, err := client.AppsV1().Deployments(systemNamespace).Get(ctx, "dovetail-controller", metav1.GetOptions{})
	require.NoError(t, err)
	return strings.Replace(deployment.Spec.Template.Spec.Containers[0].Image, "/controller:", "/"+name+":", 1)
}

// kill ends the sandbox's first process as an out-of-memory killer would.
func kill(t *testing.T) {
	status, err := sandbox.Dovetail(t.Context(), "status", "-o", "json")
	require.NoError(t, err)
	var daemon struct{ PID int }
	require.NoError(t, json.Unmarshal([]byte(status), &daemon))
	pid := daemon.PID
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.Eventually(t, func() bool { _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); return err != nil }, time.Minute, tick)
}
