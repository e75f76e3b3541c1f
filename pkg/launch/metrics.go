// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"github.com/prometheus/client_golang/prometheus"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	fallbacks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dovetail_static_allocation_fallbacks_total", Help: "Nodes launched with dynamic allocation on a pod network of static allocation, by reason.",
	}, []string{"reason"})
	podSubnetFull = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dovetail_launches_refused_by_pod_subnet_total", Help: "Fleet errors that say that a pod subnet has no room, by pod subnet and EC2's code.",
	}, []string{"subnet", "code"})
)

func init() { crmetrics.Registry.MustRegister(fallbacks, podSubnetFull) }
