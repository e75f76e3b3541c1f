// SPDX-License-Identifier: Apache-2.0

package monitoring_test

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/charts/monitoring"
)

func TestASeriesEndsWithItsTarget(t *testing.T) {
	first, err := monitoring.ParseScrape([]byte("# HELP pods Pods.\n# TYPE pods gauge\npods{state=\"ready\"} 3\n"), labels.FromStrings("pod", "agent-1"))
	require.NoError(t, err)
	second, err := monitoring.ParseScrape([]byte("pods{state=\"ready\"} 4\n"), labels.FromStrings("pod", "agent-2"))
	require.NoError(t, err)
	recording, start := monitoring.Recording{}, time.Unix(1000, 0)
	recording.Add(start, append(first, second...))
	recording.Add(start.Add(10*time.Second), second)
	recording.Add(start.Add(20*time.Second), append(first, second...))

	found, err := recording.Series().Query(t.Context(), `sum by (state) (pods{pod=~"agent.*"})`, start, start.Add(20*time.Second), 10*time.Second)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, labels.FromStrings("state", "ready"), found[0].Metric)
	require.Equal(t, []promql.FPoint{{T: 1000_000, F: 7}, {T: 1010_000, F: 4}, {T: 1020_000, F: 7}}, found[0].Floats)
}

func TestWhatIsNoMetricIsAnError(t *testing.T) {
	_, err := monitoring.ParseScrape([]byte("404 page not found\n"), labels.FromStrings("pod", "agent-1"))
	require.ErrorContains(t, err, `reading the metrics of {pod="agent-1"}`)
}

func TestNamesOfAnExpressionAreAsPrometheusHasThem(t *testing.T) {
	names, err := monitoring.Expression{Text: `histogram_quantile(0.5, sum by (le) (rate(a_seconds_bucket{verb="ADD"}[5m]))) or b / (c > 0)`}.Names()
	require.NoError(t, err)
	require.Equal(t, []string{"a_seconds_bucket", "b", "c"}, names)
	_, err = monitoring.Expression{Text: "sum("}.Names()
	require.Error(t, err)
}
