// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/charts/monitoring"
)

// checkMetrics scrapes controllers and agents from a pod, as a Prometheus in the cluster does, and looks for all that dashboards and alerts ask
// for. Some of it has no series before a node is launched: the release before this one has launched those that there are.
func checkMetrics(ctx context.Context, t *testing.T) {
	nodes, err := sandbox.Nodes(ctx)
	require.NoError(t, err)
	workload, err := sandbox.Deploy(ctx, "launched", len(nodes)+1, "", true)
	require.NoError(t, err)
	require.NoError(t, sandbox.WaitRunning(ctx, workload, nil))
	from := readyPods(ctx, t, "app=probed", 3)[0].Name
	served, programs := map[string]bool{}, map[string]int{}
	for _, component := range []string{"controller", "agent"} {
		pods, err := client.CoreV1().Pods(systemNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=" + component})
		require.NoError(t, err)
		for i := range pods.Items {
			pod := &pods.Items[i]
			if pod.DeletionTimestamp != nil {
				continue
			}
			answer := execNetprobe(ctx, t, from, "get", fmt.Sprintf("http://%s:%d/metrics", pod.Status.PodIP, metricsPort(t, pod)))
			samples, err := monitoring.ParseScrape(monitoring.Ours([]byte(answer)), labels.FromStrings("pod", pod.Name))
			require.NoError(t, err)
			for _, sample := range samples {
				served[sample.Metric.Get(model.MetricNameLabel)] = true
			}
			programs[component]++
		}
	}
	require.Positive(t, programs["controller"])
	require.Positive(t, programs["agent"])

	expressions, err := monitoring.Expressions("../../charts/dovetail/monitoring")
	require.NoError(t, err)
	asked, missing := map[string]bool{}, map[string]bool{}
	for _, expression := range expressions {
		names, err := expression.Names()
		require.NoError(t, err)
		for _, name := range names {
			asked[name] = true
			_, seldom := monitoring.Seldom[name]
			if !served[name] {
				missing[name] = true
				assert.True(t, seldom, "%s asks for %s, which nobody serves", expression.Where, name)
			}
		}
	}
	require.NoError(t, sandbox.EndDeployment(ctx, workload))
	t.Logf("%d controllers and %d agents serve %d of Dovetail's metrics; dashboards and alerts ask for %d, of which %d have no series, rightly",
		programs["controller"], programs["agent"], len(served), len(asked), len(missing))
}

// metricsPort is that of the chart's monitors: the container's port of the name.
func metricsPort(t *testing.T, pod *corev1.Pod) int32 {
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == "metrics" {
				return port.ContainerPort
			}
		}
	}
	require.Fail(t, "no port for metrics", pod.Name)
	return 0
}
