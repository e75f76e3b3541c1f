// SPDX-License-Identifier: Apache-2.0

package podnetwork_test

import (
	"fmt"
	"strings"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
)

func testMetrics(w *world) {
	w.nodeClaim("current", "us-east-1a", "", stamp(w.network("default").Hash()))
	w.nodeClaim("outdated", "us-east-1a", "", stamp("0123456789abcdef"))
	w.nodeClaim("from-before", "us-east-1b", "", nil)
	w.updateENIConfig("us-east-1b", func(s *eniconfig.ENIConfigSpec) { s.Subnet = zones[0].podSubnet })
	controller, registry := w.controller(), prometheus.NewRegistry()
	require.NoError(w, registry.Register(controller.Collector()))
	_, err := controller.Reconcile(w.Context(), w.network("default"))
	require.NoError(w, err)
	scrape := func() (series []string) {
		families, err := registry.Gather()
		require.NoError(w, err)
		problems, err := promlint.NewWithMetricFamilies(families).Lint()
		require.NoError(w, err)
		require.Empty(w, problems)
		for _, family := range families {
			for _, metric := range family.GetMetric() {
				var labels []string
				for _, pair := range metric.GetLabel() {
					labels = append(labels, pair.GetName()+"="+pair.GetValue())
				}
				series = append(series, fmt.Sprint(family.GetName(), " ", strings.Join(labels, " "), " ", metric.GetGauge().GetValue()))
			}
		}
		return series
	}
	require.Subset(w, scrape(), []string{
		"dovetail_pod_network_nodes drift=Current pod_network=default 1",
		"dovetail_pod_network_nodes drift=PodNetworkDrift pod_network=default 2",
		"dovetail_pod_network_condition condition=Ready pod_network=default reason=SubnetInOtherZone status=False 1",
		"dovetail_pod_network_condition condition=ENIConfigsReady pod_network=default reason=ENIConfigsReady status=True 1",
	})
	require.NoError(w, w.Delete(w.Context(), w.network("default")))
	require.Empty(w, scrape(), "nothing is left of a network that is gone")
}
