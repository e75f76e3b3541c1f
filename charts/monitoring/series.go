// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// Series are in memory, and Prometheus' own engine queries them: its test storage is a whole database, with the SDKs of
// three clouds.
type Series []promql.Series

// lookback is how old a sample may be that stands for a moment: Prometheus' default.
const lookback = 5 * time.Minute

// Query evaluates an expression at each step between two moments. A warning of the engine is an error.
func (s Series) Query(ctx context.Context, expression string, from, to time.Time, step time.Duration) (promql.Matrix, error) {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 10_000_000, Timeout: 2 * time.Minute, LookbackDelta: lookback})
	defer func() { _ = engine.Close() }() // it has no log of queries to close
	query, err := engine.NewRangeQuery(ctx, s, nil, expression, from, to, step)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expression, err)
	}
	defer query.Close()
	result := query.Exec(ctx)
	if result.Err != nil {
		return nil, fmt.Errorf("%s: %w", expression, result.Err)
	}
	for _, warning := range result.Warnings {
		return nil, fmt.Errorf("%s: %w", expression, warning)
	}
	matrix, err := result.Matrix()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expression, err)
	}
	copied := make(promql.Matrix, 0, len(matrix)) // closing the query takes its points back
	for _, series := range matrix {
		copied = append(copied, promql.Series{Metric: series.Metric.Copy(), Floats: append([]promql.FPoint(nil), series.Floats...)})
	}
	return copied, nil
}

// Querier is storage.Queryable's.
func (s Series) Querier(int64, int64) (storage.Querier, error) { return querier{series: s}, nil }

type querier struct {
	storage.LabelQuerier // which an engine does not ask
	series               Series
}

func (querier) Close() error { return nil }

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &seriesSet{at: -1}
	for _, series := range q.series {
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
