// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
)

// What the agent of a node remembers must not grow with the cluster (amazon-vpc-cni-k8s #1258, #2436).
func TestTheAgentNeverHoldsPodsOrNodesOfOthers(t *testing.T) {
	config := chartstest.StartAPIServer(t)
	api, err := client.New(config, client.Options{Scheme: newScheme()})
	require.NoError(t, err)
	require.NoError(t, api.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}))
	for _, node := range []string{"own", "other"} {
		require.NoError(t, api.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}))
		require.NoError(t, api.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "on-" + node},
			Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}))
	}
	a := &Agent{opts: Options{NodeName: "own"}, log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1)}
	held, err := a.connect(t.Context(), config)
	require.NoError(t, err)
	pods, nodes := &corev1.PodList{}, &corev1.NodeList{}
	require.NoError(t, held.List(t.Context(), pods))
	require.NoError(t, held.List(t.Context(), nodes))
	require.Len(t, pods.Items, 1)
	require.Equal(t, "on-own", pods.Items[0].Name)
	require.Len(t, nodes.Items, 1)
	require.Equal(t, "own", nodes.Items[0].Name)
}
