// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/dovetail-dev/dovetail/charts/monitoring"
)

// step of the evaluated series: as fine as the scrapes.
const step = 10 * time.Second

// Evaluated is what page.jsx draws.
type evaluated struct {
	// From and To are in milliseconds since 1970, as Grafana has them.
	From       int64       `json:"from"`
	To         int64       `json:"to"`
	Dashboards []dashboard `json:"dashboards"`
}

type dashboard struct {
	Name string `json:"name"`
	// Model is the dashboard's JSON, as it is in the chart.
	Model json.RawMessage `json:"model"`
	// Results are by the panel's place and the target's refId.
	Results []map[string][]result `json:"results"`
}

// result is a series, with the legend that the target asks for.
type result struct {
	Labels map[string]string `json:"labels"`
	Name   string            `json:"name"`
	Times  []int64           `json:"times"`
	Values []float64         `json:"values"`
}

// evaluate asks all that the dashboards ask, over the time of the scrapes, or at their end where a target is instant.
func evaluate(ctx context.Context, scrapes, dir string) (found evaluated, err error) {
	series, from, to, err := readScrapes(scrapes)
	if err != nil {
		return found, err
	}
	found.From, found.To = from.UnixMilli(), to.UnixMilli()
	dashboards, err := monitoring.Dashboards(dir)
	if err != nil {
		return found, err
	}
	for _, d := range dashboards {
		model, err := os.ReadFile(filepath.Join(dir, d.File))
		if err != nil {
			return found, err
		}
		one := dashboard{Name: strings.TrimSuffix(d.File, ".json"), Model: model}
		for _, panel := range d.Panels {
			results := map[string][]result{}
			for _, target := range panel.Targets {
				start := from
				if target.Instant {
					start = to
				}
				matrix, err := series.Query(ctx, target.Expr, start, to, step)
				if err != nil {
					return found, fmt.Errorf("%s: %s: %w", d.File, panel.Title, err)
				}
				results[target.RefID] = resultsOf(matrix, target.LegendFormat)
			}
			one.Results = append(one.Results, results)
		}
		found.Dashboards = append(found.Dashboards, one)
	}
	return found, nil
}

func resultsOf(matrix promql.Matrix, legend string) (found []result) {
	for _, series := range matrix {
		one := result{Labels: series.Metric.Map(), Name: legendOf(legend, series.Metric)}
		for _, point := range series.Floats {
			if point.F == point.F { // JSON has no NaN, and Grafana draws none
				one.Times, one.Values = append(one.Times, point.T), append(one.Values, point.F)
			}
		}
		if len(one.Values) > 0 {
			found = append(found, one)
		}
	}
	return found
}

var placeholder = regexp.MustCompile(`{{\s*(\w+)\s*}}`)

// legendOf fills Grafana's {{label}} in.
func legendOf(format string, metric labels.Labels) string {
	return placeholder.ReplaceAllStringFunc(format, func(found string) string { return metric.Get(placeholder.FindStringSubmatch(found)[1]) })
}

// readScrapes reads what record kept.
func readScrapes(dir string) (series monitoring.Series, from, to time.Time, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, from, to, err
	}
	var moments []int64
	for _, entry := range entries {
		second, err := strconv.ParseInt(entry.Name(), 10, 64)
		if err != nil {
			return nil, from, to, fmt.Errorf("%s holds %s, which is no scrape", dir, entry.Name())
		}
		moments = append(moments, second)
	}
	slices.Sort(moments)
	var recording monitoring.Recording
	for _, moment := range moments {
		files, err := filepath.Glob(filepath.Join(dir, strconv.FormatInt(moment, 10), "*.prom"))
		if err != nil {
			return nil, from, to, err
		}
		for _, file := range files {
			target := labels.FromStrings("namespace", "kube-system", "pod", strings.TrimSuffix(filepath.Base(file), ".prom"))
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, from, to, err
			}
			samples, err := monitoring.ParseScrape(text, target)
			if err != nil {
				return nil, from, to, err
			}
			to = time.Unix(moment, 0)
			if from.IsZero() {
				from = to
			}
			recording.Add(to, target, samples)
		}
	}
	if !from.Before(to) {
		return nil, from, to, fmt.Errorf("%s holds no two scrapes with metrics of ours", dir)
	}
	return recording.Series(), from, to, nil
}
