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
	// monitoringDir, and in it dashboards and rules, are the chart's.
	monitoringDir = "dovetail/monitoring"
	dashboardsDir = monitoringDir + "/dashboards"
	rulesFile     = monitoringDir + "/rules.yaml"
)

// quiet are the expressions that rightly find nothing in a run in which nothing goes wrong, though the run has their metrics.
var quiet = map[string]string{
	`sum by (zone, eni_config, reason) (dovetail_unavailable_offerings) > 0`:                   "a pod subnet without room",
	`sum by (verb, code) (increase(dovetail_agent_cni_duration_seconds_count{code!="0"}[5m]))`: "a call of the plugin that fails",
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
		seldom := false
		for _, name := range names {
			asked[name] = true
			why, expected := monitoring.Seldom[name]
			require.Equal(t, expected, !recorded[name], "%s asks for %s, which is recorded or said to need %q, not both", expression.Where, name, why)
			seldom = seldom || expected
		}
		if expression.Alert || seldom {
			continue
		}
		evaluated[expression.Text] = true
		found := query(t, run, expression.Text, at, at)
		if why, ok := quiet[expression.Text]; ok {
			require.Empty(t, found, "%s: it is said to need %s", expression.Where, why)
		} else {
			require.NotEmpty(t, found, "%s finds nothing: %s", expression.Where, expression.Text)
		}
	}
	for name := range monitoring.Seldom {
		require.True(t, asked[name], "nothing asks for %s", name)
	}
	for expression := range quiet {
		require.True(t, evaluated[expression], "no dashboard asks for %s", expression)
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
