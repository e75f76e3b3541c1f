// SPDX-License-Identifier: Apache-2.0

package securitygroups

import (
	"github.com/prometheus/client_golang/prometheus"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	left = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "dovetail_security_groups_outdated_enis", Help: "Pod ENIs of running nodes that do not have the security groups of their ENIConfig.",
	}, []string{"pod_network"})
	changed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dovetail_security_groups_changed_enis_total", Help: "Attached pod ENIs whose security groups were changed.",
	})
)

func init() { crmetrics.Registry.MustRegister(left, changed) }
