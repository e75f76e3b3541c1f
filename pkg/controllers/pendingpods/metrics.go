// SPDX-License-Identifier: Apache-2.0

package pendingpods

import (
	"github.com/prometheus/client_golang/prometheus"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

var waiting = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "dovetail_pods_without_addresses", Help: "Pods that wait for a node because no pod subnet that they may use has room for one.",
}, []string{"pod_network"})

func init() { crmetrics.Registry.MustRegister(waiting) }
