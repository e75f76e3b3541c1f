// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

// recorded are series in memory, which Prometheus' own engine queries: its test storage is a whole database, with the SDKs of
// three clouds.
type recorded []promql.Series

// parse reads series as promtool's tests have them, a line each: `name{label="value"} 1x10 0x5` is a sample a minute, from 0 on.
func parse(t *testing.T, text string) (found recorded) {
	t.Helper()
	for line := range strings.Lines(text) {
		metric, values, err := parser.ParseSeriesDesc(strings.TrimSpace(line))
		require.NoError(t, err, line)
		series := promql.Series{Metric: metric}
		for i, value := range values {
			series.Floats = append(series.Floats, promql.FPoint{T: int64(i) * time.Minute.Milliseconds(), F: value.Value})
		}
		found = append(found, series)
	}
	return found
}

// query evaluates an expression each minute between two moments since the start.
func (r recorded) query(t *testing.T, expression string, from, to time.Duration) promql.Matrix {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1_000_000, Timeout: 2 * time.Minute, LookbackDelta: 5 * time.Minute})
	defer engine.Close()
	query, err := engine.NewRangeQuery(t.Context(), r, nil, expression, time.Unix(0, 0).Add(from), time.Unix(0, 0).Add(to), time.Minute)
	require.NoError(t, err, expression)
	defer query.Close()
	result := query.Exec(t.Context())
	require.NoError(t, result.Err, expression)
	require.Empty(t, result.Warnings, expression)
	matrix, err := result.Matrix()
	require.NoError(t, err, expression)
	copied := make(promql.Matrix, 0, len(matrix)) // closing the query takes its points back
	for _, series := range matrix {
		copied = append(copied, promql.Series{Metric: series.Metric.Copy(), Floats: append([]promql.FPoint(nil), series.Floats...)})
	}
	return copied
}

// Querier is storage.Queryable's.
func (r recorded) Querier(int64, int64) (storage.Querier, error) { return querier{recorded: r}, nil }

type querier struct {
	storage.LabelQuerier // which an engine does not ask
	recorded
}

func (querier) Close() error { return nil }

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &seriesSet{at: -1}
	for _, series := range q.recorded {
		matches := true
		for _, matcher := range matchers {
			matches = matches && matcher.Matches(series.Metric.Get(matcher.Name))
		}
		if matches {
			set.series = append(set.series, series)
		}
	}
	return set
}

type seriesSet struct {
	series []promql.Series
	at     int
}

func (s *seriesSet) Next() bool                      { s.at++; return s.at < len(s.series) }
func (s *seriesSet) At() storage.Series              { return promql.NewStorageSeries(s.series[s.at]) }
func (*seriesSet) Err() error                        { return nil }
func (*seriesSet) Warnings() annotations.Annotations { return nil }
