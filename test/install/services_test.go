// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// checkNodePorts reaches the pods of checkPods through ports of nodes: from nodes and from pods, by policy Cluster and Local.
func checkNodePorts(ctx context.Context, t *testing.T, nodes []scenario.Node) {
	anywhere := nodePort(ctx, t, "anywhere", corev1.ServiceExternalTrafficPolicyCluster)
	local := nodePort(ctx, t, "local", corev1.ServiceExternalTrafficPolicyLocal)
	pods := readyPods(ctx, t, "app=probed", 3)
	others := 0
	for _, to := range nodes {
		address := to.Address.String()
		serves := slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return pod.Status.HostIP == address })
		for _, from := range nodes {
			require.EventuallyWithT(t, func(c *assert.CollectT) { // kube-proxy hears of the Service a moment later
				require.NotEmpty(c, dialFrom(ctx, c, from, address, anywhere))
			}, stepDeadline, tick, "%s to %s: any node leads to a pod", from.Name, to.Name)
			if !serves || from.Name == to.Name {
				continue
			}
			others++
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				require.Equal(c, from.Address.String(), dialFrom(ctx, c, from, address, local), "the pod sees the other node")
			}, stepDeadline, tick, "%s to %s", from.Name, to.Name)
		}
		for _, pod := range pods {
			require.NotEmpty(t, netprobe(ctx, t, pod.Name, "dial", fmt.Sprintf("%s:%d", address, anywhere)), "%s to %s", pod.Name, to.Name)
			if serves && pod.Status.HostIP != address {
				require.Equal(t, pod.Status.PodIP, netprobe(ctx, t, pod.Name, "dial", fmt.Sprintf("%s:%d", address, local)), "%s to %s", pod.Name, to.Name)
			}
		}
	}
	require.NotZero(t, others, "one node only: nothing crossed")
	for _, name := range []string{"anywhere", "local"} {
		require.NoError(t, client.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
	}
}

func nodePort(ctx context.Context, t *testing.T, name string, policy corev1.ServiceExternalTrafficPolicy) int32 {
	service, err := client.CoreV1().Services(namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ExternalTrafficPolicy: policy, Selector: map[string]string{"app": "probed"},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt(webPort)}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	return service.Spec.Ports[0].NodePort
}

// dialFrom a node, and return whom the pod saw.
func dialFrom(ctx context.Context, t require.TestingT, node scenario.Node, address string, port int32) string {
	saw, err := sandbox.OnNode(ctx, node.InstanceID, filepath.Join(binDir, "netprobe"), "dial", fmt.Sprintf("%s:%d", address, port))
	require.NoError(t, err)
	return strings.TrimSpace(saw)
}
