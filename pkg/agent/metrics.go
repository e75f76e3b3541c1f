// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	awsprometheus "github.com/jonathan-innis/aws-sdk-go-prometheus/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// metrics of the agent; the names start with dovetail_agent_, but for those of the AWS SDK.
type metrics struct {
	registry  *prometheus.Registry
	addresses *prometheus.GaugeVec
	enis      prometheus.Gauge
	waiting   prometheus.Gauge
	collected *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dovetail_agent_addresses", Help: "Pod addresses of the node, by state: total, leased, cooling.",
		}, []string{"state"}),
		enis:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "dovetail_agent_pod_enis", Help: "ENIs that carry pods."}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "dovetail_agent_waiting_pods", Help: "Pods that are bound to the node and have no address."}),
		collected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dovetail_agent_collected_total", Help: "What pods left behind and the agent took away, by kind: lease, link.",
		}, []string{"kind"}),
	}
	for _, kind := range []remainKind{remainLease, remainLink} {
		m.collected.WithLabelValues(string(kind))
	}
	m.registry.MustRegister(m.addresses, m.enis, m.waiting, m.collected, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// instrument counts calls of AWS by operation and code.
func (m *metrics) instrument(cfg aws.Config) aws.Config {
	return awsprometheus.WithPrometheusMetrics(cfg, m.registry)
}

func (m *metrics) collectedRemain(kind remainKind) { m.collected.WithLabelValues(string(kind)).Inc() }

func (m *metrics) observe(in pool.Input) {
	total, leased, cooling := in.Usage()
	m.addresses.WithLabelValues("total").Set(float64(total))
	m.addresses.WithLabelValues("leased").Set(float64(leased))
	m.addresses.WithLabelValues("cooling").Set(float64(cooling))
	m.enis.Set(float64(len(in.PodENIs)))
	m.waiting.Set(float64(in.Waiting))
}
