// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
)

// Sample is a series' value in one scrape.
type Sample struct {
	Metric labels.Labels
	Value  float64
}

// ParseScrape reads what a program serves at /metrics, in Prometheus' text format, and adds the labels that Prometheus would.
func ParseScrape(text []byte, target labels.Labels) (found []Sample, err error) {
	parser := textparse.NewPromParser(text, labels.NewSymbolTable(), false)
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the metrics of %s: %w", target, err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var metric labels.Labels
		parser.Labels(&metric)
		builder := labels.NewBuilder(metric)
		target.Range(func(l labels.Label) { builder.Set(l.Name, l.Value) })
		_, _, number := parser.Series()
		found = append(found, Sample{Metric: builder.Labels(), Value: number})
	}
}

// Recording collects scrapes as Prometheus does: a series that a scrape does not have any more has ended.
type Recording struct {
	series map[string]*promql.Series
	order  []string
}

// Add takes what all targets answered at a moment; moments come in their order.
func (r *Recording) Add(at time.Time, samples []Sample) {
	if r.series == nil {
		r.series = map[string]*promql.Series{}
	}
	for _, sample := range samples {
		key := sample.Metric.String()
		if r.series[key] == nil {
			r.series[key] = &promql.Series{Metric: sample.Metric}
			r.order = append(r.order, key)
		}
		r.series[key].Floats = append(r.series[key].Floats, promql.FPoint{T: at.UnixMilli(), F: sample.Value})
	}
	for _, series := range r.series {
		if last := series.Floats[len(series.Floats)-1]; last.T < at.UnixMilli() && !value.IsStaleNaN(last.F) {
			series.Floats = append(series.Floats, promql.FPoint{T: at.UnixMilli(), F: math.Float64frombits(value.StaleNaN)})
		}
	}
}

// Series that were recorded.
func (r *Recording) Series() (found Series) {
	for _, key := range r.order {
		found = append(found, *r.series[key])
	}
	return found
}
