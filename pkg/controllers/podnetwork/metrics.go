// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/samber/lo"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

var (
	nodesDesc = prometheus.NewDesc("dovetail_pod_network_nodes",
		"Nodes of a pod network by drift: Current, or why they are to be replaced.", []string{"pod_network", "drift"}, nil)
	conditionDesc = prometheus.NewDesc("dovetail_pod_network_condition",
		"1 for the status and reason that each condition of a PodNetwork has.", []string{"pod_network", "condition", "status", "reason"}, nil)
)

// scrapeTimeout bounds what a scrape waits for the cache.
const scrapeTimeout = 5 * time.Second

// drifts counts the nodes of each network by what is to become of them.
type drifts struct {
	mu      sync.Mutex
	reasons map[string]map[string]int // by network
}

func (d *drifts) set(network string, claims []claim) {
	counts := map[string]int{}
	for _, found := range claims {
		if launched(found.NodeClaim) {
			counts[lo.CoalesceOrEmpty(string(found.outdated), "Current")]++
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reasons == nil {
		d.reasons = map[string]map[string]int{}
	}
	d.reasons[network] = counts
}

func (d *drifts) of(network string) map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.reasons[network])
}

// Collector gives what is so when it is asked: nothing is left of a PodNetwork that is gone.
func (c *Controller) Collector() prometheus.Collector { return collector{c} }

type collector struct{ *Controller }

func (c collector) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- nodesDesc
	descriptions <- conditionDesc
}

func (c collector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	networks := &v1alpha1.PodNetworkList{}
	if err := c.Client.List(ctx, networks, client.UnsafeDisableDeepCopy); err != nil {
		return // the cache has not begun
	}
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	for _, network := range networks.Items {
		for drift, nodes := range c.drifts.of(network.Name) {
			gauge(nodesDesc, nodes, network.Name, drift)
		}
		for _, condition := range lo.UniqBy(network.Status.Conditions, func(c status.Condition) string { return c.Type }) {
			gauge(conditionDesc, 1, network.Name, condition.Type, string(condition.Status), condition.Reason)
		}
	}
}

// expose the metrics once.
func (c *Controller) expose(registry prometheus.Registerer) error {
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(c.Collector()); err != nil && !errors.As(err, &already) {
		return fmt.Errorf("registering metrics of pod networks, %w", err)
	}
	return nil
}
