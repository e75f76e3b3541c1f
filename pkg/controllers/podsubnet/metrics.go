// SPDX-License-Identifier: Apache-2.0

package podsubnet

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

var (
	labels            = []string{"subnet"}
	prefixes          = prometheus.NewDesc("dovetail_pod_subnet_prefixes", "Aligned /28 blocks that a pod subnet has when nothing is in it.", labels, nil)
	freePrefixes      = prometheus.NewDesc("dovetail_pod_subnet_free_prefixes", "Aligned /28 blocks of a pod subnet that nothing touches.", labels, nil)
	freeAddresses     = prometheus.NewDesc("dovetail_pod_subnet_free_addresses", "Single addresses of a pod subnet that are free.", labels, nil)
	committedPrefixes = prometheus.NewDesc("dovetail_pod_subnet_committed_prefixes",
		"/28 blocks of a pod subnet that are set aside for nodes that do not hold them yet, with those that single addresses may spoil.", labels, nil)
	committedAddresses = prometheus.NewDesc("dovetail_pod_subnet_committed_addresses",
		"Addresses of a pod subnet that are set aside for nodes that do not hold them yet.", labels, nil)
	fragmentation = prometheus.NewDesc("dovetail_pod_subnet_fragmentation_percent", "Share of a pod subnet's free addresses that lie in no free /28.", labels, nil)
	readAt        = prometheus.NewDesc("dovetail_pod_subnet_read_timestamp_seconds", "When a pod subnet was last read from EC2.", labels, nil)
)

// refusedNodes counts what nodes report.
var refusedNodes = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "dovetail_nodes_refused_by_pod_subnet_total",
	Help: "Refusals of addresses that node agents reported and that keep launches from a pod subnet for a while, by pod subnet and EC2's code.",
}, []string{"subnet", "code"})

func init() { crmetrics.Registry.MustRegister(refusedNodes) }

// Collector gives what the ledger knows when it is asked.
func Collector(ledger *podnetwork.Ledger) prometheus.Collector { return collector{ledger} }

type collector struct{ *podnetwork.Ledger }

func (c collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{prefixes, freePrefixes, freeAddresses, committedPrefixes, committedAddresses, fragmentation, readAt} {
		descriptions <- d
	}
}

func (c collector) Collect(metrics chan<- prometheus.Metric) {
	for _, id := range c.Wanted() {
		snapshot := c.Snapshot(id)
		if snapshot == nil {
			continue
		}
		room := c.Room(id)
		for desc, value := range map[*prometheus.Desc]float64{
			prefixes: float64(podnetwork.BlocksOf(snapshot.CIDR)), freePrefixes: float64(room.Free.Blocks), freeAddresses: float64(room.Free.Addresses),
			committedPrefixes: float64(room.Aside.Blocks), committedAddresses: float64(room.Aside.Addresses),
			fragmentation: float64(snapshot.Capacity.Fragmentation), readAt: float64(snapshot.Read.Unix()),
		} {
			metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, id)
		}
	}
}

// expose the ledger once.
func expose(registry prometheus.Registerer, ledger *podnetwork.Ledger) error {
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(Collector(ledger)); err != nil && !errors.As(err, &already) {
		return fmt.Errorf("registering metrics of pod subnets, %w", err)
	}
	return nil
}
