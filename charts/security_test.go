// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"context"
	"net"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/charts"
	"github.com/dovetail-dev/dovetail/pkg/agent"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// podOf the only object of the kind, as its controller would make it.
func podOf(t *testing.T, kind string, values map[string]any) *corev1.Pod {
	t.Helper()
	objects, err := render(merge(with([]string{"settings", "clusterName"}, "test"), values), charts.Dovetail)
	require.NoError(t, err)
	for _, object := range objects {
		if object.GetKind() != kind {
			continue
		}
		workload := &appsv1.Deployment{} // a DaemonSet's template is at the same place
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, workload))
		template := workload.Spec.Template
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: object.GetName(), Labels: template.Labels}, Spec: template.Spec}
	}
	require.Fail(t, "no "+kind)
	return nil
}

// The levels are those of the API server's own admission: https://kubernetes.io/docs/concepts/security/pod-security-standards/
func TestThePodsKeepToTheirPodSecurityLevels(t *testing.T) {
	ctx := context.Background()
	c, err := client.New(controlplanetest.Start(t), client.Options{})
	require.NoError(t, err)
	for _, level := range []string{"privileged", "baseline", "restricted"} {
		require.NoError(t, c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: level, Labels: map[string]string{"pod-security.kubernetes.io/enforce": level}}}))
		for _, account := range []string{"dovetail-controller", "dovetail-agent"} {
			require.NoError(t, c.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account, Namespace: level}}))
		}
	}
	create := func(kind, level string, values map[string]any) error {
		pod := podOf(t, kind, values)
		pod.Namespace = level
		return c.Create(ctx, pod, client.DryRunAll)
	}
	require.NoError(t, create("Deployment", "restricted", nil))
	require.NoError(t, create("DaemonSet", "privileged", nil))

	// What the agent needs, and nothing else: the node's network, one capability for it, and folders of the node.
	err = create("DaemonSet", "baseline", nil)
	require.ErrorContains(t, err, `host namespaces (hostNetwork=true)`)
	require.ErrorContains(t, err, `non-default capabilities (container "agent" must not include "NET_ADMIN" in securityContext.capabilities.add)`)
	require.ErrorContains(t, err, "hostPath volumes")
	require.NotContains(t, err.Error(), "privileged (")
	require.ErrorContains(t, create("DaemonSet", "baseline", with([]string{"agent", "privileged"}, true)), `privileged (container "agent" must not set securityContext.privileged=true)`)
}

// The SDK falls back to version 1 of the metadata service otherwise, where the instance allows it.
func TestCredentialsComeFromVersion2OfTheMetadataService(t *testing.T) {
	for _, kind := range []string{"Deployment", "DaemonSet"} {
		require.Contains(t, podOf(t, kind, nil).Spec.Containers[0].Env, corev1.EnvVar{Name: "AWS_EC2_METADATA_V1_DISABLED", Value: "true"}, kind)
	}
}

// The agent is on the node's network, and its health port is no other's: only the kubelet asks, on the node.
func TestTheKubeletAsksTheAgentWhereItAnswers(t *testing.T) {
	for port, values := range map[string]map[string]any{"61681": nil, "9201": with([]string{"agent", "healthProbePort"}, 9201)} {
		pod := podOf(t, "DaemonSet", values)
		require.True(t, pod.Spec.HostNetwork)
		container := pod.Spec.Containers[0]
		for _, variable := range container.Env {
			if variable.ValueFrom == nil {
				t.Setenv(variable.Name, variable.Value)
			}
		}
		t.Setenv("NODE_NAME", "n")
		options, err := agent.ParseOptions(nil)
		require.NoError(t, err)
		for path, probe := range map[string]*corev1.Probe{"/healthz": container.LivenessProbe, "/readyz": container.ReadinessProbe} {
			require.NotNil(t, probe, path)
			require.Equal(t, path, probe.HTTPGet.Path)
			require.Equal(t, "health", probe.HTTPGet.Port.String())
			require.True(t, slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool {
				return p.Name == "health" && strconv.Itoa(int(p.ContainerPort)) == port
			}))
			require.Equal(t, options.HealthAddress, net.JoinHostPort(probe.HTTPGet.Host, port))
			require.Greater(t, probe.TimeoutSeconds, int32(1), "busy nodes answer late")
		}
	}
}

func TestTheNetworkPolicyIsOfTheControllersPodsAndPorts(t *testing.T) {
	from := map[string]any{"namespaceSelector": map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": "monitoring"}}}
	values := with([]string{"networkPolicy"}, map[string]any{"enabled": true, "metricsFrom": []any{from}})
	objects, err := render(merge(with([]string{"settings", "clusterName"}, "test"), values), charts.Dovetail)
	require.NoError(t, err)
	policy := &networkingv1.NetworkPolicy{}
	for _, object := range objects {
		if object.GetKind() == "NetworkPolicy" {
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, policy))
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
	require.NoError(t, err)
	pod := podOf(t, "Deployment", nil)
	require.True(t, selector.Matches(labels.Set(pod.Labels)))
	require.False(t, selector.Matches(labels.Set(podOf(t, "DaemonSet", nil).Labels)))
	require.Equal(t, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, policy.Spec.PolicyTypes)
	open := map[string]int{} // port by name, and how many peers it is for; 0: all
	for _, rule := range policy.Spec.Ingress {
		for _, port := range rule.Ports {
			open[port.Port.StrVal] = len(rule.From)
		}
	}
	require.Equal(t, map[string]int{"metrics": 1, "health": 0}, open)
	for _, port := range pod.Spec.Containers[0].Ports {
		require.Contains(t, open, port.Name, "nobody reaches that port")
	}
	require.Len(t, pod.Spec.Containers[0].Ports, len(open))
}
