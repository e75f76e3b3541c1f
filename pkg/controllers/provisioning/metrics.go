// SPDX-License-Identifier: Apache-2.0

package provisioning

import (
	"github.com/prometheus/client_golang/prometheus"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	actions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dovetail_provision_actions_total", Help: "What spec.provision of PodNetworks made and deleted in VPCs, and ENIConfigs that it wrote.",
	}, []string{"pod_network", "action"})
	refused = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "dovetail_provision_refused", Help: "1 for each reason for which spec.provision of a PodNetwork is not carried out.",
	}, []string{"pod_network", "reason"})
)

func init() { crmetrics.Registry.MustRegister(actions, refused) }
