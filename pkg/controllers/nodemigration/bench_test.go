// SPDX-License-Identifier: Apache-2.0

package nodemigration_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// BenchmarkMigrationOfAHundredNodes migrates hollow nodes with four pods each, under budgets of 5 of 20, ten nodes at a time, to nodes
// that are there: run it with -benchtime 1x. Beside the rate it reports how many nodes were under way on average. Where that is near ten,
// the budget is what limits the migration.
func BenchmarkMigrationOfAHundredNodes(b *testing.B) {
	const nodes, atOnce = 100, 10
	c := startCluster(b)
	for b.Loop() {
		b.StopTimer()
		w := c.world(b)
		w.nodes("old", nodes)
		for i := range nodes / 5 {
			name := fmt.Sprintf("web-%d", i)
			w.deploy(name, 20)
			w.budget(name, 5)
		}
		w.nodes("new", nodes/2)
		b.StartTimer()
		began := time.Now()
		w.migrate(func(s *v1alpha1.NodeMigrationSpec) {
			s.MaxUnavailable = intstr.FromInt32(atOnce)
			s.Cordon = v1alpha1.CordonAll
		})
		looks, underWay := 0, 0
		var status v1alpha1.NodeMigrationStatus
		for deadline := time.Now().Add(10 * time.Minute); status.Phase != v1alpha1.MigrationComplete; time.Sleep(100 * time.Millisecond) {
			require.True(b, time.Now().Before(deadline), "%+v", status)
			if status = w.migration(b).Status; status.StartedAt != nil && status.FinishedAt == nil {
				looks, underWay = looks+1, underWay+int(status.Nodes.Draining)
			}
		}
		took := time.Since(began)
		b.StopTimer()
		require.Equal(b, int32(nodes), status.Nodes.Done)
		b.ReportMetric(nodes/took.Minutes(), "nodes/min")
		b.ReportMetric(float64(underWay)/float64(looks), "nodes-at-once")
		w.clear()
		b.StartTimer()
	}
}
