// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"context"
	"path"
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// plainNetwork is a network of the node alone, of the reference plugins that Debian has.
const plainNetwork = `{"cniVersion": "1.0.0", "name": "plain", "plugins": [
	{"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "192.168.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`

// installPlainNetwork is what the container of a CNI plugin's DaemonSet does on its node. The configuration comes last and at once.
const installPlainNetwork = `ln -sf /usr/lib/cni/ptp /usr/lib/cni/host-local /opt/cni/bin/ &&
	printf %s "$1" >/etc/cni/net.d/10-plain && mv /etc/cni/net.d/10-plain /etc/cni/net.d/10-plain.conflist`

// serveNetwork plays the part of a CNI plugin's DaemonSet: a node without a CNI configuration is never Ready, on EKS as here, and
// stand-ins for kubelets have no containers that could run one of others. Nodes get theirs as soon as they register.
func serveNetwork(ctx context.Context, t *testing.T, s *scenario.Sandbox) {
	for ctx.Err() == nil {
		events, err := s.Kube.Watch(ctx, &corev1.NodeList{})
		if err != nil {
			assert.Error(t, ctx.Err(), err)
			return
		}
		for event := range events.ResultChan() { // which ends now and then by the server's will
			node, ok := event.Object.(*corev1.Node)
			if !ok || event.Type != watch.Added {
				continue
			}
			_, err := s.OnNode(ctx, path.Base(node.Spec.ProviderID), "sh", "-c", installPlainNetwork, "sh", plainNetwork)
			if err != nil && ctx.Err() == nil {
				t.Logf("network of node %s: %v", node.Name, err) // it may have gone again
			}
		}
		events.Stop()
	}
}
