// SPDX-License-Identifier: Apache-2.0

package enigarbage

import (
	"github.com/prometheus/client_golang/prometheus"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	leaked = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "dovetail_leaked_enis", Help: "ENIs of this cluster that were left behind and could not be deleted yet.",
	})
	collected = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dovetail_leaked_enis_deleted_total", Help: "ENIs that were left behind and have been deleted.",
	})
)

func init() { crmetrics.Registry.MustRegister(leaked, collected) }
