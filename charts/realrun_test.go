// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/charts/monitoring"
)

// realRun are the metrics of ours that a sandbox's controller and two of its agents served, a minute after the examples were applied; as
// Prometheus has them, with namespace and pod, and unchanged for ten minutes.
// To record them again: `dovetail sandbox exec --instance ID -- bin/netprobe get http://127.0.0.1:61680/metrics` (8080: the controller), and of that
// the lines that begin with dovetail_.
func realRun(t *testing.T) monitoring.Series {
	t.Helper()
	files, err := filepath.Glob("testdata/metrics/*.prom")
	require.NoError(t, err)
	require.Len(t, files, 3)
	var samples []monitoring.Sample
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		pod := strings.TrimSuffix(filepath.Base(file), ".prom")
		found, err := monitoring.ParseScrape(text, labels.FromStrings("namespace", "kube-system", "pod", pod))
		require.NoError(t, err)
		samples = append(samples, found...)
	}
	recording := monitoring.Recording{}
	for minute := range 11 {
		recording.Add(time.Unix(0, 0).Add(time.Duration(minute)*time.Minute), samples)
	}
	return recording.Series()
}

const (
	// at is when expressions are evaluated: with what the rates of the dashboards look back on.
	at = 6 * time.Minute
	// alertMark ends the place of an alert's expression.
	alertMark = " (alert)"
	// dashboardsDir and rulesFile are the chart's.
	dashboardsDir = "dovetail/monitoring/dashboards"
	rulesFile     = "dovetail/monitoring/rules.yaml"
)

// expressions of dashboards and alerts, and where each stands.
func expressions(t *testing.T) (found map[string]string) {
	t.Helper()
	found = map[string]string{}
	dashboards, err := monitoring.Dashboards(dashboardsDir)
	require.NoError(t, err)
	for _, dashboard := range dashboards {
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				found[target.Expr] = dashboard.File + ": " + panel.Title
			}
		}
	}
	rules, err := monitoring.Rules(rulesFile)
	require.NoError(t, err)
	for _, rule := range rules {
		found[rule.Expr] = rule.Alert + alertMark
	}
	return found
}

// absent are the expressions that rightly find nothing in a run in which nothing goes wrong, and what would change that.
var absent = map[string]string{
	`sum by (zone, eni_config, reason) (dovetail_unavailable_offerings) > 0`:                   "a pod subnet without room",
	`sum by (pod_network, action) (increase(dovetail_provision_actions_total[5m]))`:            "a PodNetwork with spec.provision",
	`sum by (reason) (increase(dovetail_static_allocation_fallbacks_total[5m]))`:               "static allocation that a node subnet's public addresses forbid",
	`sum by (pod_network, subnet) (increase(dovetail_single_address_fallbacks_total[5m]))`:     "a fragmented pod subnet",
	`sum by (subnet, code) (increase(dovetail_launches_refused_by_pod_subnet_total[5m]))`:      "a launch that EC2 refuses",
	`sum by (subnet, code) (increase(dovetail_nodes_refused_by_pod_subnet_total[5m]))`:         "an agent that EC2 refuses addresses",
	`sum by (verb, code) (increase(dovetail_agent_cni_duration_seconds_count{code!="0"}[5m]))`: "a call of the plugin that fails",
	`sum by (reason) (increase(dovetail_agent_failures_total[5m]))`:                            "an agent that gets no addresses",
	`sum by (migration, phase) (dovetail_node_migration_nodes)`:                                "a NodeMigration",
}

func TestEachExpressionOfTheDashboardsFindsSeriesInARealRun(t *testing.T) {
	run := realRun(t)
	all := expressions(t)
	for expression, where := range all {
		if !strings.HasSuffix(where, alertMark) {
			found := query(t, run, expression, at, at)
			if why, ok := absent[expression]; ok {
				require.Empty(t, found, "%s: it is said to need %s", expression, why)
			} else {
				require.NotEmpty(t, found, "%s finds nothing: %s", where, expression)
			}
		}
	}
	for expression := range absent {
		require.Contains(t, all, expression, "no dashboard asks for it")
	}
}

func TestNoAlertFiresInARealRunInWhichNothingIsWrong(t *testing.T) {
	run := realRun(t)
	for expression, where := range expressions(t) {
		if strings.HasSuffix(where, alertMark) && !strings.Contains(expression, "time()") { // it was read in another year than this test's
			require.Empty(t, query(t, run, expression, at, at), where)
		}
	}
}
