// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/charts/monitoring"
)

// parse reads series as promtool's tests have them, a line each: `name{label="value"} 1x10 0x5` is a sample a minute, from 0 on; `_x5`: none.
func parse(t *testing.T, text string) (found monitoring.Series) {
	t.Helper()
	for line := range strings.Lines(text) {
		metric, values, err := parser.ParseSeriesDesc(strings.TrimSpace(line))
		require.NoError(t, err, line)
		series := promql.Series{Metric: metric}
		for i, value := range values {
			if !value.Omitted {
				series.Floats = append(series.Floats, promql.FPoint{T: int64(i) * time.Minute.Milliseconds(), F: value.Value})
			}
		}
		found = append(found, series)
	}
	return found
}

// query evaluates an expression each minute between two moments since the start.
func query(t *testing.T, series monitoring.Series, expression string, from, to time.Duration) promql.Matrix {
	t.Helper()
	found, err := series.Query(t.Context(), expression, time.Unix(0, 0).Add(from), time.Unix(0, 0).Add(to), time.Minute)
	require.NoError(t, err)
	return found
}
