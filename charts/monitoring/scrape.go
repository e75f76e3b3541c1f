// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
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

// Ours are the lines of Dovetail's metrics in what a program serves, without their types. Karpenter's are many times as many.
func Ours(text []byte) (found []byte) {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("dovetail_")) {
			found = append(found, line...)
		}
	}
	return found
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

// Recording collects scrapes of several targets. As Prometheus has it, a series has ended when its target is scraped and does not have it
// any more. Unlike there a scrape that failed ends nothing: only one that no other follows does.
type Recording struct {
	targets map[string]*target
	order   []string
	moments []int64
}

// target is one program: its series by their labels, in the order in which they came.
type target struct {
	series map[string]*promql.Series
	order  []string
	last   int64 // scrape
}

// Add takes what a target answered at a moment; moments come in their order. The labels name the target.
func (r *Recording) Add(at time.Time, labels labels.Labels, samples []Sample) {
	now := at.UnixMilli()
	if len(r.moments) == 0 || r.moments[len(r.moments)-1] != now {
		r.moments = append(r.moments, now)
	}
	if r.targets == nil {
		r.targets = map[string]*target{}
	}
	name := labels.String()
	if r.targets[name] == nil {
		r.targets[name] = &target{series: map[string]*promql.Series{}}
		r.order = append(r.order, name)
	}
	r.targets[name].add(now, samples)
}

func (t *target) add(now int64, samples []Sample) {
	t.last = now
	for _, sample := range samples {
		key := sample.Metric.String()
		if t.series[key] == nil {
			t.series[key] = &promql.Series{Metric: sample.Metric}
			t.order = append(t.order, key)
		}
		t.series[key].Floats = append(t.series[key].Floats, promql.FPoint{T: now, F: sample.Value})
	}
	for _, series := range t.series {
		if last := series.Floats[len(series.Floats)-1]; last.T < now && !value.IsStaleNaN(last.F) {
			series.Floats = append(series.Floats, stale(now))
		}
	}
}

func stale(at int64) promql.FPoint {
	return promql.FPoint{T: at, F: math.Float64frombits(value.StaleNaN)}
}

// Series that were recorded.
func (r *Recording) Series() (found Series) {
	for _, name := range r.order {
		t := r.targets[name]
		gone := slices.IndexFunc(r.moments, func(moment int64) bool { return moment > t.last })
		for _, key := range t.order {
			series := promql.Series{Metric: t.series[key].Metric, Floats: slices.Clone(t.series[key].Floats)}
			if gone >= 0 {
				series.Floats = append(series.Floats, stale(r.moments[gone]))
			}
			found = append(found, series)
		}
	}
	return found
}
