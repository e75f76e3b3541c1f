// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
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
	recording := monitoring.Recording{}
	for minute := range 11 {
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			target := labels.FromStrings("namespace", "kube-system", "pod", strings.TrimSuffix(filepath.Base(file), ".prom"))
			samples, err := monitoring.ParseScrape(text, target)
			require.NoError(t, err)
			recording.Add(time.Unix(0, 0).Add(time.Duration(minute)*time.Minute), target, samples)
		}
	}
	return recording.Series()
}

const (
	// at is when expressions are evaluated: with what the rates of the dashboards look back on.
	at = 6 * time.Minute
	// monitoringDir, and in it dashboards and rules, are the chart's.
	monitoringDir = "dovetail/monitoring"
	dashboardsDir = monitoringDir + "/dashboards"
	rulesFile     = monitoringDir + "/rules.yaml"
)

// quiet are the panels that rightly show nothing in a run in which nothing goes wrong, though the run has their metrics.
var quiet = map[string]string{
	"nodes.json: Offerings withheld from Karpenter":    "a pod subnet without room",
	"agents.json: CNI calls that failed, in 5 minutes": "a call of the plugin that fails",
}

func TestEachExpressionOfTheDashboardsFindsSeriesInARealRun(t *testing.T) {
	run := realRun(t)
	recorded := map[string]bool{}
	for _, series := range run {
		recorded[series.Metric.Get(model.MetricNameLabel)] = true
	}
	expressions, err := monitoring.Expressions(monitoringDir)
	require.NoError(t, err)
	asked, evaluated := map[string]bool{}, map[string]bool{}
	for _, expression := range expressions {
		names, err := expression.Names()
		require.NoError(t, err)
		missing := false
		for _, name := range names {
			asked[name] = true
			_, seldom := monitoring.Seldom[name]
			require.True(t, recorded[name] || seldom, "%s asks for %s, which a real run does not have", expression.Where, name)
			missing = missing || !recorded[name]
		}
		if expression.Alert || missing {
			continue
		}
		evaluated[expression.Where] = true
		found := query(t, run, expression.Text, at, at)
		if why, ok := quiet[expression.Where]; ok {
			require.Empty(t, found, "%s: it is said to need %s", expression.Where, why)
		} else {
			require.NotEmpty(t, found, "%s finds nothing: %s", expression.Where, expression.Text)
		}
	}
	for name := range monitoring.Seldom {
		require.True(t, asked[name], "nothing asks for %s", name)
	}
	for panel := range quiet {
		require.True(t, evaluated[panel], "there is no panel %s", panel)
	}
}

func TestNoAlertFiresInARealRunInWhichNothingIsWrong(t *testing.T) {
	run := realRun(t)
	expressions, err := monitoring.Expressions(monitoringDir)
	require.NoError(t, err)
	alerts := 0
	for _, expression := range expressions {
		if expression.Alert && !strings.Contains(expression.Text, "time()") { // it was read in another year than this test's
			alerts++
			require.Empty(t, query(t, run, expression.Text, at, at), expression.Where)
		}
	}
	require.Positive(t, alerts)
}

// A counter with labels appears with its first event: what it grew by since is one less.
func TestCountsOfTheDashboardsHaveTheFirstEvent(t *testing.T) {
	const count = "dovetail_agent_aws_call_duration_seconds_count"
	run := parse(t, count+`{operation="AttachNetworkInterface",code="OK",pod="old"} 7x20
`+count+`{operation="DescribeNetworkInterfaces",code="OK",pod="old"} 0+2x20
`+count+`{operation="AttachNetworkInterface",code="OK",pod="new"} _x10 1x10
`+count+`{operation="DescribeNetworkInterfaces",code="OK",pod="new"} _x10 3x10`)
	expressions, err := monitoring.Expressions(monitoringDir)
	require.NoError(t, err)
	text := ""
	for _, expression := range expressions {
		if expression.Where == "agents.json: Requests to AWS, in 5 minutes" {
			text = expression.Text
		}
	}
	require.NotEmpty(t, text)
	for at, want := range map[time.Duration]map[string]float64{
		9 * time.Minute:  {"AttachNetworkInterface": 0, "DescribeNetworkInterfaces": 10},
		12 * time.Minute: {"AttachNetworkInterface": 1, "DescribeNetworkInterfaces": 13},
		19 * time.Minute: {"AttachNetworkInterface": 0, "DescribeNetworkInterfaces": 10},
	} {
		got := map[string]float64{}
		for _, series := range query(t, run, text, at, at) {
			got[series.Metric.Get("operation")] = series.Floats[0].F
		}
		require.Equal(t, want, got, "after %s", at)
	}
}
