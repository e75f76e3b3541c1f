// SPDX-License-Identifier: Apache-2.0

package cloudprovider_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/cloudprovider"
)

func TestLaunchesAreCountedByGroupAndAllocation(t *testing.T) {
	r := newRegion(t, chartstest.StartAPIServer(t))
	r.podSubnet("us-east-1a", "us-east-1a", "100.64.0.0/24") // 14 blocks, each address may spoil one: one node
	counted := cloudprovider.Counted(r.controller(time.Now().Add(-time.Minute)))
	before := launches(t)
	claims := r.claims(2)
	created, err := counted.Create(r.ctx(), claims[0])
	require.NoError(t, err)
	_, err = counted.Create(r.ctx(), claims[1])
	require.Error(t, err)
	labels := created.Labels
	require.Equal(t, "110", labels["dovetail.dev/max-pods"])
	series := map[string]string{
		"pod_network": "pods", "enis": labels["dovetail.dev/enis"], "ips_per_eni": labels["dovetail.dev/ips-per-eni"], "max_pods": "110", "allocation": "Dynamic",
	}
	after := launches(t)
	require.Len(t, after, len(before)+1, "%v", after)
	require.Contains(t, after, series)
}

// launches counted so far: the labels of each series.
func launches(t *testing.T) (series []map[string]string) {
	t.Helper()
	families, err := crmetrics.Registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != "dovetail_launches_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, pair := range metric.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			require.NotZero(t, metric.GetCounter().GetValue())
			series = append(series, labels)
		}
	}
	return series
}
