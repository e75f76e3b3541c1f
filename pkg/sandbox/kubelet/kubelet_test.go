// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/kubelet"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// deadline ends a test that hangs; it is no expectation.
const deadline = 2 * time.Minute

// TestANodeServesItsPods is one story: each step stands on those before.
func TestANodeServesItsPods(t *testing.T) {
	m := boot(t, map[string]string{"agent": program(t)})

	t.Run("the node is as the user data say, and not Ready without a CNI configuration", func(t *testing.T) {
		eventually(t, func(c *assert.CollectT) {
			node, err := m.client.CoreV1().Nodes().Get(t.Context(), m.node, metav1.GetOptions{})
			require.NoError(c, err)
			require.Equal(c, "aws:///us-east-1a/"+m.instanceID, node.Spec.ProviderID)
			require.Equal(c, "default", node.Labels["karpenter.sh/nodepool"])
			require.Equal(c, "m5.large", node.Labels[corev1.LabelInstanceTypeStable])
			require.Contains(c, node.Spec.Taints, corev1.Taint{Key: "karpenter.sh/unregistered", Effect: corev1.TaintEffectNoExecute})
			require.EqualValues(c, maxPods, node.Status.Allocatable.Pods().Value())
			require.EqualValues(c, 1930, node.Status.Allocatable.Cpu().MilliValue())
			require.EqualValues(c, (300+100)<<20, node.Status.Capacity.Memory().Value()-node.Status.Allocatable.Memory().Value(), "kube-reserved and eviction")
			ready := readyCondition(node)
			require.Equal(c, corev1.ConditionFalse, ready.Status)
			require.Equal(c, "KubeletNotReady", ready.Reason)
			require.Contains(c, ready.Message, "cni plugin not initialized")
		})
		eventually(t, func(c *assert.CollectT) {
			lease, err := m.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), m.node, metav1.GetOptions{})
			require.NoError(c, err)
			require.Equal(c, m.node, *lease.Spec.HolderIdentity)
		})
	})

	web := m.create(t, pod("web", corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx"}}}))

	t.Run("a plugin that fails is quoted in the pod's event", func(t *testing.T) {
		m.configurePlugin(t)
		eventually(t, func(c *assert.CollectT) {
			require.Contains(c, m.events(c, web), "FailedCreatePodSandBox")
		})
	})
	t.Run("the node is Ready when a CNI configuration exists", func(t *testing.T) {
		eventually(t, func(c *assert.CollectT) {
			node, err := m.client.CoreV1().Nodes().Get(t.Context(), m.node, metav1.GetOptions{})
			require.NoError(c, err)
			require.Equal(c, corev1.ConditionTrue, readyCondition(node).Status)
		})
	})
	t.Run("a condition that another program keeps on the node stays", func(t *testing.T) {
		const theirs = `{"status": {"conditions": [{"type": "Theirs", "status": "True"}]}}`
		_, err := m.client.CoreV1().Nodes().PatchStatus(t.Context(), m.node, []byte(theirs))
		require.NoError(t, err)
		for range 2 { // the kubelet knows of it by the answer to its next report
			before := m.heartbeat(t)
			eventually(t, func(c *assert.CollectT) {
				require.NoError(c, os.WriteFile(filepath.Join(m.confDir, "touched"), nil, 0o600)) // it reports at once
				require.True(c, m.heartbeat(c).After(before))
			})
		}
		node, err := m.client.CoreV1().Nodes().Get(t.Context(), m.node, metav1.GetOptions{})
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == "Theirs" && c.Status == corev1.ConditionTrue }))
	})
	t.Run("the pod gets the address that the plugin gave, once it can", func(t *testing.T) {
		m.publishPool(t)
		web = m.waitReady(t, web)
		require.True(t, podPrefix.Contains(netip.MustParseAddr(web.Status.PodIP)), web.Status.PodIP)
		require.Equal(t, m.address.String(), web.Status.HostIP)
		require.NoError(t, netns.Do(m.netns(web), func() error {
			link, err := netlink.LinkByName("eth0")
			require.NoError(t, err)
			addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
			require.NoError(t, err)
			require.Len(t, addresses, 1)
			require.Equal(t, web.Status.PodIP, addresses[0].IP.String())
			return nil
		}))
	})
	t.Run("a pod that is said not to be Ready, as when its node was away, is Ready again", func(t *testing.T) {
		running := m.waitReady(t, m.create(t, pod("said-not-to-be-ready", corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "web", Image: "nginx"}}})))
		patch := []byte(`{"status":{"conditions":[{"type":"Ready","status":"False","reason":"NodeNotReady"}]}}`)
		patched, err := m.client.CoreV1().Pods(running.Namespace).Patch(t.Context(), running.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(patched.Status.Conditions), "NodeNotReady")
		m.remove(t, m.waitReady(t, patched))
	})
	t.Run("what the API server did not take is told again", func(t *testing.T) { m.testRefusedWrites(t) })
	t.Run("a known image's program sees its arguments, environment and volumes", func(t *testing.T) { m.testProgram(t) })
	t.Run("a pod that may end ends", func(t *testing.T) {
		job := m.create(t, pod("job", corev1.PodSpec{
			HostNetwork: true, RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{Name: "job", Image: "registry.example/agent:v1", Args: []string{"write", "/tmp/x", "done"}}},
		}))
		eventually(t, func(c *assert.CollectT) {
			require.Equal(c, corev1.PodSucceeded, m.get(c, job).Status.Phase)
		})
		m.remove(t, job)
	})
	t.Run("a preStop hook comes before the end, and the grace period, which can be shortened, ends both", func(t *testing.T) { m.testHooks(t) })
	t.Run("a pod beyond max-pods is refused", func(t *testing.T) {
		for i := range maxPods - 2 {
			m.waitReady(t, m.create(t, pod(fmt.Sprint("more-", i), corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx"}}})))
		}
		beyond := m.create(t, pod("beyond", corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx"}}}))
		eventually(t, func(c *assert.CollectT) {
			status := m.get(c, beyond).Status
			require.Equal(c, corev1.PodFailed, status.Phase)
			require.Equal(c, "OutOfpods", status.Reason)
		})
	})
	t.Run("a deleted pod leaves nothing", func(t *testing.T) {
		m.remove(t, web)
		require.NoFileExists(t, m.netns(web))
		require.NoFileExists(t, filepath.Join(stateDir, "leases", web.Status.PodIP))
	})
	t.Run("programs end with the kubelet", func(t *testing.T) {
		pid := m.ask(t, "pid", "")
		m.stop()
		require.NoError(t, <-m.stopped)
		require.NoDirExists(t, filepath.Join("/proc", pid))
	})
}

func (m *machine) testHooks(t *testing.T) {
	shared := t.TempDir()
	hook := func(command ...string) *corev1.Lifecycle {
		return &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: command}}}
	}
	// The hook runs in the container: it is what writes this file. It has the time that a busy machine may take to start it.
	writer := m.waitReady(t, m.create(t, pod("writer", corev1.PodSpec{
		TerminationGracePeriodSeconds: ptr.To[int64](120),
		HostNetwork:                   true, Containers: []corev1.Container{{
			Name: "agent", Image: "registry.example/agent:v1", Args: []string{"serve", "127.0.0.1:0"},
			Lifecycle: hook("/ko-app/agent", "write", "/host/last", "words"), VolumeMounts: []corev1.VolumeMount{{Name: "host", MountPath: "/host"}},
		}},
		Volumes: []corev1.Volume{{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: shared}}}},
	})))
	sleeper := m.waitReady(t, m.create(t, pod("sleeper", corev1.PodSpec{
		HostNetwork: true, Containers: []corev1.Container{{Name: "web", Image: "nginx", Lifecycle: hook("/bin/sh", "-c", "sleep 3600")}},
	})))
	pods := m.client.CoreV1().Pods(sleeper.Namespace)
	require.NoError(t, pods.Delete(t.Context(), sleeper.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](1800)}))
	m.remove(t, writer)
	require.FileExists(t, filepath.Join(shared, "last"))
	require.NotNil(t, m.get(t, sleeper).DeletionTimestamp, "the other pod is gone, this one is not")
	require.NoError(t, pods.Delete(t.Context(), sleeper.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](1)}))
	eventually(t, func(c *assert.CollectT) {
		_, err := pods.Get(t.Context(), sleeper.Name, metav1.GetOptions{})
		require.True(c, apierrors.IsNotFound(err))
	})
}

// testExec runs commands through the API server, which asks the kubelet.
func (m *machine) testExec(t *testing.T, command cli.Command) {
	run := func(config *rest.Config, args ...string) (string, error) {
		command.Args = append([]string{"/ko-app/agent"}, args...)
		printed, err := cli.Exec(t.Context(), config, command)
		return string(printed), err
	}
	printed, err := run(m.config, "print", "PLAIN")
	require.NoError(t, err)
	require.Equal(t, "value", printed, "in the container's environment, and without what goes to the standard error")
	_, err = run(m.config, "exists", "/data/installed")
	require.NoError(t, err, "in the container's root")
	_, err = run(m.config, "print", "NOTHING")
	require.Equal(t, &cli.ExitError{Code: 3, Stderr: "printed NOTHING"}, err)

	nobody := rest.CopyConfig(m.config)
	nobody.Impersonate.UserName = "nobody"
	_, err = run(nobody, "print", "PLAIN")
	require.ErrorContains(t, err, "need the right to create pods/exec")
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "exec"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"create"}}}}
	_, err = m.client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = m.client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "exec"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "exec"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "nobody"}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	eventually(t, func(c *assert.CollectT) { // the authorizer learns of it by a watch
		printed, err := run(nobody, "print", "PLAIN")
		require.NoError(c, err)
		require.Equal(c, "value", printed, "a WebSocket is a GET; without the right to get, SPDY")
	})
	response, err := insecure.Get("https://" + net.JoinHostPort(m.address.String(), "10250") + "/exec/default/agent/agent?command=x")
	if err == nil {
		response.Body.Close()
	}
	require.ErrorContains(t, err, "certificate required", "the kubelet serves nobody else")

	command.Pod = "nobody"
	_, err = run(m.config, "print", "PLAIN")
	require.ErrorContains(t, err, `pods "nobody" not found`)
}

// insecure accepts a kubelet's certificate, as the API server does, and has none itself.
var insecure = http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a test

func (m *machine) testProgram(t *testing.T) {
	shared := t.TempDir()
	agent := m.create(t, pod("agent", corev1.PodSpec{
		HostNetwork: true,
		InitContainers: []corev1.Container{{
			Name: "install", Image: "registry.example/agent:v1", Args: []string{"write", "/data/installed", "by init"},
			VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
		}},
		Containers: []corev1.Container{{
			Name: "agent", Image: "registry.example/agent:v1@sha256:0000", Args: []string{"serve", net8080(m.address)},
			Env: []corev1.EnvVar{
				{Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
				{Name: "PLAIN", Value: "value"},
			},
			VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "host", MountPath: "/host"}},
			ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
				Exec: &corev1.ExecAction{Command: []string{"/ko-app/agent", "exists", "/data/installed"}},
			}},
			LivenessProbe: &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 2, ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)},
			}},
		}},
		Volumes: []corev1.Volume{
			{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: shared}}},
		},
	}))
	require.NoError(t, os.WriteFile(filepath.Join(shared, "note"), []byte("from the host"), 0o600))
	m.waitReady(t, agent)

	require.Equal(t, m.node, m.ask(t, "env", "NODE_NAME"))
	require.Equal(t, "value", m.ask(t, "env", "PLAIN"))
	require.Equal(t, "127.0.0.1", m.ask(t, "env", "KUBERNETES_SERVICE_HOST"))
	require.Equal(t, "by init", m.ask(t, "file", "/data/installed"))
	require.Equal(t, "from the host", m.ask(t, "file", "/host/note"))
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	require.Equal(t, metav1.NamespaceDefault, m.ask(t, "file", account+"namespace"))
	require.Len(t, strings.Split(m.ask(t, "file", account+"token"), "."), 3, "a JSON web token")

	m.testExec(t, cli.Command{Namespace: agent.Namespace, Pod: agent.Name, Container: "agent"})

	pid, err := strconv.Atoi(m.ask(t, "pid", ""))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	m.waitRestarted(t, agent, 1)
	_, err = m.client.CoreV1().Pods(agent.Namespace).Patch(t.Context(), agent.Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"tier":"node"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	m.ask(t, "fall-ill", "")
	m.waitRestarted(t, agent, 2)
	require.Equal(t, "node", m.get(t, agent).Labels["tier"], "a label that was set meanwhile stays")
	require.FileExists(t, filepath.Join(m.logs, "agent.agent.log"))
}

func net8080(address netip.Addr) string { return netip.AddrPortFrom(address, 8080).String() }

var podPrefix = netip.MustParsePrefix("100.64.0.16/28")

// stateDir is the agent's, which the plugin reads.
const stateDir = "/run/dovetail"

// configurePlugin does what the agent's init container and the agent do, but for the pool.
func (m *machine) configurePlugin(t *testing.T) {
	t.Helper()
	plugin := filepath.Join(controlplanetest.BinDir(), "cni")
	require.FileExists(t, plugin, "run make build")
	require.NoError(t, os.Symlink(plugin, filepath.Join(m.binDir, "dovetail")))
	require.NoError(t, os.WriteFile(filepath.Join(m.confDir, "10-dovetail.conflist"), []byte(
		`{"cniVersion": "1.0.0", "name": "dovetail", "plugins": [{"type": "dovetail", "stateDir": "`+stateDir+`"}]}`), 0o600))
}

// publishPool does the rest of the agent's work.
func (m *machine) publishPool(t *testing.T) {
	t.Helper()
	require.NoError(t, os.MkdirAll(stateDir, 0o700))
	require.NoError(t, pool.Write(stateDir, &pool.Document{
		Node: m.node, PrimaryAddress: m.address, MTU: 9001, PodTable: pool.PodTable, CooldownSeconds: 30,
		ENIs: []pool.ENI{{ID: "eni-1", DeviceIndex: 1, RouteTable: pool.ENITable(1), Prefixes: []netip.Prefix{podPrefix}}},
	}))
}

// pod that is bound to the node by hand: its taint keeps the scheduler off.
func pod(name string, spec corev1.PodSpec) *corev1.Pod {
	spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	if spec.TerminationGracePeriodSeconds == nil {
		spec.TerminationGracePeriodSeconds = ptr.To[int64](5)
	}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault}, Spec: spec}
}

// create tries until the namespace's service account is there.
func (m *machine) create(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	pod.Spec.NodeName = m.node
	var created *corev1.Pod
	eventually(t, func(c *assert.CollectT) {
		var err error
		created, err = m.client.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{})
		require.NoError(c, err)
	})
	return created
}

func (m *machine) get(t require.TestingT, pod *corev1.Pod) *corev1.Pod {
	got, err := m.client.CoreV1().Pods(pod.Namespace).Get(context.Background(), pod.Name, metav1.GetOptions{})
	require.NoError(t, err)
	return got
}

func (m *machine) remove(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	require.NoError(t, m.client.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}))
	eventually(t, func(c *assert.CollectT) {
		_, err := m.client.CoreV1().Pods(pod.Namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
		require.True(c, apierrors.IsNotFound(err))
	})
}

func (m *machine) waitReady(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	var got *corev1.Pod
	eventually(t, func(c *assert.CollectT) {
		got = m.get(c, pod)
		require.Equal(c, corev1.PodRunning, got.Status.Phase)
		for _, condition := range got.Status.Conditions {
			require.Equal(c, corev1.ConditionTrue, condition.Status, condition.Type)
		}
	})
	return got
}

func (m *machine) waitRestarted(t *testing.T, pod *corev1.Pod, times int32) {
	t.Helper()
	eventually(t, func(c *assert.CollectT) {
		status := m.get(c, pod).Status.ContainerStatuses[0]
		require.Equal(c, times, status.RestartCount)
		require.True(c, status.Ready)
	})
}

// events of a pod: their reasons.
func (m *machine) events(t require.TestingT, pod *corev1.Pod) []string {
	list, err := m.client.CoreV1().Events(pod.Namespace).List(context.Background(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod.Name})
	require.NoError(t, err)
	var reasons []string
	for _, event := range list.Items {
		reasons = append(reasons, event.Reason)
	}
	return reasons
}

// ask the program that serves on the node.
func (m *machine) ask(t *testing.T, what, name string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // the program ends and starts between requests
	response, err := client.Get("http://" + net8080(m.address) + "/" + what + "?name=" + url.QueryEscape(name))
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", content)
	return string(content)
}

func (m *machine) netns(pod *corev1.Pod) string {
	return filepath.Join(kubelet.NetNSDir, string(pod.UID))
}

func (m *machine) heartbeat(t require.TestingT) time.Time {
	node, err := m.client.CoreV1().Nodes().Get(context.Background(), m.node, metav1.GetOptions{})
	require.NoError(t, err)
	return readyCondition(node).LastHeartbeatTime.Time
}

func readyCondition(node *corev1.Node) corev1.NodeCondition {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition
		}
	}
	return corev1.NodeCondition{}
}

func eventually(t *testing.T, check func(*assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, check, deadline, 100*time.Millisecond)
}
