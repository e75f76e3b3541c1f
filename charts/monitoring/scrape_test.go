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

func TestASeriesEndsWhenItsTargetHasItNoMoreOrIsGone(t *testing.T) {
	recording, start := monitoring.Recording{}, time.Unix(1000, 0)
	scrape := func(after time.Duration, pod, text string) {
		target := labels.FromStrings("pod", pod)
		samples, err := monitoring.ParseScrape([]byte(text), target)
		require.NoError(t, err)
		recording.Add(start.Add(after), target, samples)
	}
	const both = "# HELP pods Pods.\n# TYPE pods gauge\npods{state=\"ready\"} 3\npods{state=\"new\"} 1\n"
	scrape(0, "a", both)
	scrape(0, "b", "pods{state=\"ready\"} 4\n")
	scrape(10*time.Second, "a", "pods{state=\"ready\"} 2\n") // and that of b fails
	scrape(20*time.Second, "a", both)
	scrape(20*time.Second, "b", "pods{state=\"ready\"} 5\n")
	scrape(30*time.Second, "a", both) // b does not come back

	found, err := recording.Series().Query(t.Context(), `sum by (state) (pods{pod=~"a|b"})`, start, start.Add(30*time.Second), 10*time.Second)
	require.NoError(t, err)
	got := map[string][]promql.FPoint{}
	for _, series := range found {
		got[series.Metric.Get("state")] = series.Floats
	}
	require.Equal(t, map[string][]promql.FPoint{
		"ready": {{T: 1000_000, F: 7}, {T: 1010_000, F: 6}, {T: 1020_000, F: 8}, {T: 1030_000, F: 3}},
		"new":   {{T: 1000_000, F: 1}, {T: 1020_000, F: 1}, {T: 1030_000, F: 1}},
	}, got)
}

func TestOursAreDovetailsSeries(t *testing.T) {
	text := "# TYPE dovetail_a gauge\ndovetail_a{b=\"c\"} 1\nkarpenter_a 1\ndovetail_b 2\n"
	require.Equal(t, "dovetail_a{b=\"c\"} 1\ndovetail_b 2\n", string(monitoring.Ours([]byte(text))))
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
