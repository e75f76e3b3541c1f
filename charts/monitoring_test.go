// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/charts"
	"github.com/dovetail-dev/dovetail/charts/monitoring"
)

// documented are the metrics of the docs' pages, which tests compare with those that the programs register, and their labels.
func documented(t *testing.T) (metrics, labels map[string]bool) {
	t.Helper()
	metrics, labels = map[string]bool{}, map[string]bool{"le": true, "namespace": true, "pod": true}
	quoted := regexp.MustCompile("`([a-z_]+)`")
	for _, page := range []string{"controller.md", "agent.md"} {
		text, err := os.ReadFile("../docs/" + page)
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, "`dovetail_") {
				continue
			}
			for _, match := range quoted.FindAllStringSubmatch(line, -1) {
				if strings.HasPrefix(match[1], "dovetail_") {
					metrics[match[1]] = true
				} else {
					labels[match[1]] = true
				}
			}
		}
	}
	return metrics, labels
}

// checkExpression parses PromQL and looks for names that no program of ours has.
func checkExpression(t *testing.T, expression string, metrics, labels map[string]bool) {
	t.Helper()
	parsed, err := parser.ParseExpr(expression)
	require.NoError(t, err, expression)
	known := func(names ...string) {
		for _, name := range names {
			require.True(t, labels[name], "no metric of ours has the label %q of %s", name, expression)
		}
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			name := n.Name
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				if base, ok := strings.CutSuffix(name, suffix); ok && metrics[base] {
					name = base
				}
			}
			require.True(t, metrics[name], "there is no metric %q, which %s asks for", n.Name, expression)
			for _, matcher := range n.LabelMatchers {
				if matcher.Name != model.MetricNameLabel {
					known(matcher.Name)
				}
			}
		case *parser.AggregateExpr:
			known(n.Grouping...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				known(n.VectorMatching.MatchingLabels...)
			}
		}
		return nil
	})
}

func TestDashboardsAskForMetricsThatThereAre(t *testing.T) {
	metrics, labels := documented(t)
	asked := map[string]bool{}
	dashboards, err := monitoring.Dashboards(dashboardsDir)
	require.NoError(t, err)
	require.Len(t, dashboards, 3)
	for _, dashboard := range dashboards {
		for _, panel := range dashboard.Panels {
			require.NotEmpty(t, panel.Targets, panel.Title)
			for _, target := range panel.Targets {
				checkExpression(t, target.Expr, metrics, labels)
				for name := range metrics {
					asked[name] = asked[name] || strings.Contains(target.Expr, name)
				}
			}
		}
	}
	for name := range metrics {
		require.True(t, asked[name], "no dashboard shows %s", name)
	}
}

func TestEachAlertIsOfMetricsThatThereAreAndHasItsRunbook(t *testing.T) {
	metrics, labels := documented(t)
	rules, err := monitoring.Rules(rulesFile)
	require.NoError(t, err)
	runbooks, err := os.ReadFile("../docs/runbooks.md")
	require.NoError(t, err)
	page, err := os.ReadFile("../docs/monitoring.md")
	require.NoError(t, err)
	for _, rule := range rules {
		runbook := "runbooks.md#" + strings.ToLower(rule.Alert)
		require.Contains(t, string(page), fmt.Sprintf("\n| [%s](%s) | %s |", rule.Alert, runbook, rule.Labels["severity"]))
		checkExpression(t, rule.Expr, metrics, labels)
		require.Contains(t, string(runbooks), "\n## "+rule.Alert+"\n")
		require.True(t, strings.HasSuffix(rule.Annotations["runbook_url"], "docs/"+runbook), rule.Alert)
		require.NotEmpty(t, rule.Annotations["summary"])
		require.Contains(t, []string{"warning", "critical"}, rule.Labels["severity"])
	}
	require.Equal(t, len(rules), strings.Count(string(runbooks), "\n## "), "a runbook is for no alert")
}

func TestMonitoringIsOfThePortsOfThePods(t *testing.T) {
	on := map[string]any{"enabled": true}
	objects, err := render(map[string]any{
		"settings":       map[string]any{"clusterName": "test"},
		"serviceMonitor": map[string]any{"enabled": true, "additionalLabels": map[string]any{"release": "prometheus"}},
		"podMonitor":     on, "prometheusRule": on, "dashboards": on,
	}, charts.Dovetail)
	require.NoError(t, err)
	kinds := map[string]int{}
	for _, object := range objects {
		kinds[object.GetKind()]++
		switch object.GetKind() {
		case "ServiceMonitor":
			require.Equal(t, "prometheus", object.GetLabels()["release"])
			require.Equal(t, "metrics", object.Object["spec"].(map[string]any)["endpoints"].([]any)[0].(map[string]any)["port"])
		case "PodMonitor":
			require.Equal(t, "metrics", object.Object["spec"].(map[string]any)["podMetricsEndpoints"].([]any)[0].(map[string]any)["port"])
		case "PrometheusRule":
			text, err := yaml.Marshal(object.Object["spec"])
			require.NoError(t, err)
			_, problems := rulefmt.Parse(text, false, model.UTF8Validation)
			require.Empty(t, problems)
		case "ConfigMap":
			require.Equal(t, "1", object.GetLabels()["grafana_dashboard"])
		}
	}
	require.Equal(t, []int{1, 1, 1, 3}, []int{kinds["ServiceMonitor"], kinds["PodMonitor"], kinds["PrometheusRule"], kinds["ConfigMap"]})
	objects, err = render(map[string]any{"settings": map[string]any{"clusterName": "test"}}, charts.Dovetail)
	require.NoError(t, err)
	for _, object := range objects {
		require.NotContains(t, []string{"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"}, object.GetKind(), "not asked for")
	}
}
