// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/charts/monitoring"
)

// alertTest is a unit test of an alert, as promtool's: series, a sample a minute, and who it fires for after that many minutes.
type alertTest struct {
	alert, series string
	// quiet is how long it does not fire yet, firing when it does. 0 and 0: never.
	quiet, firing time.Duration
	// labels of those that it fires for.
	labels map[string]string
}

var alertTests = map[string]alertTest{
	"a pod subnet of which promised blocks leave less than 15 %": {
		alert: "DovetailPodSubnetNearlyFull",
		series: `dovetail_pod_subnet_free_prefixes{subnet="a"} 80x60
			dovetail_pod_subnet_committed_prefixes{subnet="a"} 8x60
			dovetail_pod_subnet_prefixes{subnet="a"} 512x60`,
		quiet: 14 * time.Minute, firing: 16 * time.Minute, labels: map[string]string{"subnet": "a"},
	},
	"a pod subnet with room": {
		alert: "DovetailPodSubnetNearlyFull",
		series: `dovetail_pod_subnet_free_prefixes{subnet="a"} 85x60
			dovetail_pod_subnet_committed_prefixes{subnet="a"} 8x60
			dovetail_pod_subnet_prefixes{subnet="a"} 512x60`,
	},
	"a subnet of no /28": {
		alert: "DovetailPodSubnetNearlyFull",
		series: `dovetail_pod_subnet_free_prefixes{subnet="a"} 0x60
			dovetail_pod_subnet_committed_prefixes{subnet="a"} 0x60
			dovetail_pod_subnet_prefixes{subnet="a"} 0x60`,
	},
	"room comes back": {
		alert: "DovetailPodSubnetNearlyFull",
		series: `dovetail_pod_subnet_free_prefixes{subnet="a"} 80x10 300x60
			dovetail_pod_subnet_committed_prefixes{subnet="a"} 8x70
			dovetail_pod_subnet_prefixes{subnet="a"} 512x70`,
	},
	"a pod subnet that was read last at the start": {
		alert: "DovetailPodSubnetNotRead", series: `dovetail_pod_subnet_read_timestamp_seconds{subnet="a"} 0x60`,
		quiet: 20 * time.Minute, firing: 22 * time.Minute, labels: map[string]string{"subnet": "a"},
	},
	"a pod subnet that is read": {
		alert: "DovetailPodSubnetNotRead", series: `dovetail_pod_subnet_read_timestamp_seconds{subnet="a"} 0+60x60`,
	},
	"pods wait for a node with addresses": {
		alert: "DovetailPodsWithoutAddresses", series: `dovetail_pods_without_addresses{pod_network="default",pod="controller-1"} 0x10 3x60`,
		quiet: 20 * time.Minute, firing: 22 * time.Minute, labels: map[string]string{"pod_network": "default"},
	},
	"pods that waited for less": {
		alert: "DovetailPodsWithoutAddresses", series: `dovetail_pods_without_addresses{pod_network="default"} 0x10 3x8 0x60`,
	},
	"pods wait on a node whose agent has none": {
		alert: "DovetailNodeWithoutAddresses",
		series: `dovetail_agent_waiting_pods{namespace="kube-system",pod="agent-1"} 2x60
			dovetail_agent_pod_network_ready{namespace="kube-system",pod="agent-1"} 0x60`,
		quiet: 9 * time.Minute, firing: 11 * time.Minute, labels: map[string]string{"namespace": "kube-system", "pod": "agent-1"},
	},
	"pods wait on a node that is well, and none on one that is not": {
		alert: "DovetailNodeWithoutAddresses",
		series: `dovetail_agent_waiting_pods{namespace="kube-system",pod="agent-1"} 2x60
			dovetail_agent_pod_network_ready{namespace="kube-system",pod="agent-1"} 1x60
			dovetail_agent_waiting_pods{namespace="kube-system",pod="agent-2"} 0x60
			dovetail_agent_pod_network_ready{namespace="kube-system",pod="agent-2"} 0x60`,
	},
	"a PodNetwork is not ready": {
		alert: "DovetailPodNetworkNotReady", series: `dovetail_pod_network_condition{pod_network="default",condition="Ready",status="False",reason="SubnetsReady"} 1x60`,
		quiet: 14 * time.Minute, firing: 16 * time.Minute, labels: map[string]string{"pod_network": "default", "reason": "SubnetsReady"},
	},
	"a PodNetwork is ready, but for a migration": {
		alert: "DovetailPodNetworkNotReady",
		series: `dovetail_pod_network_condition{pod_network="default",condition="Ready",status="True",reason="Ready"} 1x60
			dovetail_pod_network_condition{pod_network="default",condition="MigrationComplete",status="False",reason="NodesOutdated"} 1x60`,
	},
	"ENIs stay": {
		alert: "DovetailLeakedENIs", series: `dovetail_leaked_enis{pod="controller-1"} 2x60`, quiet: 29 * time.Minute, firing: 31 * time.Minute, labels: map[string]string{},
	},
	"ENIs that are deleted": {alert: "DovetailLeakedENIs", series: `dovetail_leaked_enis 2x20 0x40`},
	"a migration stands still": {
		alert: "DovetailNodeMigrationPaused", series: `dovetail_node_migration_paused{migration="m",reason="PodsNotReady"} 1x60`,
		quiet: 14 * time.Minute, firing: 16 * time.Minute, labels: map[string]string{"migration": "m", "reason": "PodsNotReady"},
	},
	"a migration that goes on": {alert: "DovetailNodeMigrationPaused", series: `dovetail_node_migration_paused{migration="m",reason="PodsNotReady"} 1x10 0x50`},
	"EC2 refuses to extend the VPC": {
		alert: "DovetailProvisionRefused", series: `dovetail_provision_refused{pod_network="default",reason="CIDRBlockRefused"} 1x60`,
		quiet: 14 * time.Minute, firing: 16 * time.Minute, labels: map[string]string{"pod_network": "default", "reason": "CIDRBlockRefused"},
	},
	"nothing is refused": {alert: "DovetailProvisionRefused", series: `dovetail_provision_refused{pod_network="default",reason="CIDRBlockRefused"} 0x60`},
}

// horizon is how long an alert that never fires is looked at: the series' length.
const horizon = time.Hour

func TestEachAlertFiresWhenItShouldAndElseNot(t *testing.T) {
	list, err := monitoring.Rules(rulesFile)
	require.NoError(t, err)
	rules := map[string]rulefmt.Rule{}
	for _, rule := range list {
		rules[rule.Alert] = rule
	}
	fires, rests := map[string]bool{}, map[string]bool{}
	for name, test := range alertTests {
		t.Run(name, func(t *testing.T) {
			rule := rules[test.alert]
			require.NotEmpty(t, rule.Expr)
			series, since := parse(t, test.series), time.Duration(rule.For)
			// firing are the labels of what held at each minute of the rule's `for`.
			firing := func(at time.Duration) (found []map[string]string) {
				if at < since {
					return nil
				}
				for _, result := range query(t, series, rule.Expr, at-since, at) {
					if len(result.Floats) == int(since/time.Minute)+1 {
						metric := result.Metric.Map()
						delete(metric, model.MetricNameLabel)
						found = append(found, metric)
					}
				}
				return found
			}
			if test.firing == 0 {
				rests[test.alert] = true
				for at := time.Duration(0); at <= horizon; at += time.Minute {
					require.Empty(t, firing(at), "after %s", at)
				}
				return
			}
			fires[test.alert] = true
			require.Empty(t, firing(test.quiet), "it fires too early")
			require.Equal(t, []map[string]string{test.labels}, firing(test.firing))
		})
	}
	all := slices.Sorted(maps.Keys(rules))
	require.Equal(t, all, slices.Sorted(maps.Keys(fires)), "each alert needs a test in which it fires")
	require.Equal(t, all, slices.Sorted(maps.Keys(rests)), "each alert needs a test in which it does not")
}
