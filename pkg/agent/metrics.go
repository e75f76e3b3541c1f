// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	corev1 "k8s.io/api/core/v1"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

// metrics of the agent. docs/agent.md lists them, and a test compares.
type metrics struct {
	registry     *prometheus.Registry
	ready        prometheus.Gauge
	addresses    *prometheus.GaugeVec
	blocks       *prometheus.GaugeVec
	enis         prometheus.Gauge
	waiting      prometheus.Gauge
	failures     *prometheus.CounterVec
	awsCalls     *prometheus.HistogramVec
	pluginCalls  *prometheus.HistogramVec
	poolWaits    *prometheus.HistogramVec
	repairs      *prometheus.CounterVec
	kernelErrors prometheus.Counter
	collected    *prometheus.CounterVec
}

// Buckets in seconds.
var (
	callBuckets   = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	pluginBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
)

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	register := func(c prometheus.Collector) { m.registry.MustRegister(c) }
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		register(g)
		return g
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		register(g)
		return g
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		register(c)
		return c
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		register(h)
		return h
	}
	m.ready = gauge("dovetail_agent_pod_network_ready", "1 when the node's condition PodNetworkReady is to be True, else 0.")
	m.addresses = gauges("dovetail_agent_addresses", "Pod addresses of the node, by state: total, leased, cooling, free.", "state")
	m.blocks = gauges("dovetail_agent_prefixes", "What fills the address slots of pod ENIs, by unit: prefix (a /28), address.", "unit")
	m.enis = gauge("dovetail_agent_pod_enis", "ENIs that carry pods.")
	m.waiting = gauge("dovetail_agent_waiting_pods", "Pods that are bound to the node and have no address.")
	m.failures = counters("dovetail_agent_failures_total", "What kept the agent from having more addresses, by reason; a try each.", "reason")
	m.awsCalls = histograms("dovetail_agent_aws_call_duration_seconds",
		"Requests to AWS, each try of one, by code: OK, AWS's error code, or NoAnswer.", callBuckets, "service", "operation", "code")
	m.pluginCalls = histograms("dovetail_agent_cni_duration_seconds",
		"Calls of the CNI plugin, by verb and by CNI error code (0: success), as far as the plugin could tell.", pluginBuckets, "verb", "code")
	m.poolWaits = histograms("dovetail_agent_pool_wait_duration_seconds",
		"ADDs that found the pool empty and waited for the agent, by result: served, refused, timeout.", callBuckets, "result")
	m.repairs = counters("dovetail_agent_repairs_total", "Objects of the kernel that somebody else had changed and the agent made right, by kind.", "kind")
	m.kernelErrors = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dovetail_agent_kernel_errors_total", Help: "Looks at the kernel after which it was not as it should be.",
	})
	register(m.kernelErrors)
	m.collected = counters("dovetail_agent_collected_total", "What pods left behind and the agent took away, by kind: lease, link.", "kind")
	register(collectors.NewGoCollector())
	register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.startAtZero()
	return m
}

// startAtZero makes series that are to be there before the first event: an increase from nothing is none to Prometheus.
func (m *metrics) startAtZero() {
	for _, kind := range []remainKind{remainLease, remainLink} {
		m.collected.WithLabelValues(string(kind))
	}
	for _, kind := range datapath.Kinds() {
		m.repairs.WithLabelValues(string(kind))
	}
	for _, result := range []waitResult{waitServed, waitRefused, waitTimeout} {
		m.poolWaits.WithLabelValues(string(result))
	}
	for _, verb := range []string{cni.VerbAdd, cni.VerbDel} {
		m.pluginCalls.WithLabelValues(verb, "0")
	}
}

func (m *metrics) collectedRemain(kind remainKind) { m.collected.WithLabelValues(string(kind)).Inc() }

func (m *metrics) observe(in pool.Input) {
	total, leased, cooling := in.Usage()
	m.addresses.WithLabelValues("total").Set(float64(total))
	m.addresses.WithLabelValues("leased").Set(float64(leased))
	m.addresses.WithLabelValues("cooling").Set(float64(cooling))
	m.addresses.WithLabelValues("free").Set(float64(max(total-leased-cooling, 0)))
	units := map[pool.Unit]int{pool.Prefix: 0, pool.SingleAddress: 0}
	for _, e := range in.PodENIs {
		for _, b := range e.Blocks {
			if b.Prefix.IsSingleIP() {
				units[pool.SingleAddress]++
			} else {
				units[pool.Prefix]++
			}
		}
	}
	for unit, n := range units {
		m.blocks.WithLabelValues(unit.String()).Set(float64(n))
	}
	m.enis.Set(float64(len(in.PodENIs)))
	m.waiting.Set(float64(in.Waiting))
}

func (m *metrics) observeCondition(c corev1.NodeCondition) {
	ready := 0.0
	if c.Status == corev1.ConditionTrue {
		ready = 1
	}
	m.ready.Set(ready)
}

func (m *metrics) called(r cni.Report) {
	m.pluginCalls.WithLabelValues(r.Verb, strconv.FormatUint(uint64(r.Code), 10)).Observe(r.Seconds)
}

func (m *metrics) repaired(changes []datapath.Change) {
	for _, c := range changes {
		m.repairs.WithLabelValues(string(c.Kind)).Inc()
	}
}

// waitResult is how an ADD's wait for the agent ended.
type waitResult string

const (
	waitServed  waitResult = "served"
	waitRefused waitResult = "refused"
	waitTimeout waitResult = "timeout"
)

func (m *metrics) waited(result waitResult, took time.Duration) {
	m.poolWaits.WithLabelValues(string(result)).Observe(took.Seconds())
}
