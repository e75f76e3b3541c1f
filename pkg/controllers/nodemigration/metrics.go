// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

var (
	nodes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "dovetail_node_migration_nodes", Help: "Nodes of a NodeMigration by phase: Pending, Draining, Done or Refused.",
	}, []string{"migration", "phase"})
	paused = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "dovetail_node_migration_paused", Help: "1 while a NodeMigration begins no further node, by reason.",
	}, []string{"migration", "reason"})
	evicted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dovetail_node_migration_evicted_pods_total", Help: "Pods that NodeMigrations evicted.",
	})
)

func init() { crmetrics.Registry.MustRegister(nodes, paused, evicted) }

// measure what the status says.
func measure(m *v1alpha1.NodeMigration) {
	counted := m.Status.Nodes
	for phase, n := range map[v1alpha1.NodePhase]int32{
		v1alpha1.NodePending: counted.Pending, v1alpha1.NodeDraining: counted.Draining, v1alpha1.NodeDone: counted.Done, v1alpha1.NodeRefused: counted.Refused,
	} {
		nodes.WithLabelValues(m.Name, string(phase)).Set(float64(n))
	}
	paused.DeletePartialMatch(prometheus.Labels{"migration": m.Name})
	if condition := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionPaused); condition != nil && condition.Status == "True" {
		paused.WithLabelValues(m.Name, condition.Reason).Set(1)
	}
}

// forget a migration that is gone.
func forget(name string) {
	nodes.DeletePartialMatch(prometheus.Labels{"migration": name})
	paused.DeletePartialMatch(prometheus.Labels{"migration": name})
}
