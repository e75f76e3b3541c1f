// SPDX-License-Identifier: Apache-2.0

// Package monitoring reads what the chart's dashboards and alerts ask Prometheus for, and asks it of series in memory.
package monitoring

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// Dashboard is what is read of a Grafana dashboard.
type Dashboard struct {
	// File is its name in the folder.
	File   string `json:"-"`
	Title  string
	Panels []Panel
}

// Panel of a dashboard.
type Panel struct {
	Title   string
	Targets []Target
}

// Target is a query of a panel.
type Target struct {
	RefID        string `json:"refId"`
	Expr         string
	LegendFormat string
	Instant      bool
}

// Dashboards of a folder, by name.
func Dashboards(dir string) (found []Dashboard, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		dashboard := Dashboard{File: filepath.Base(file)}
		if err := json.Unmarshal(text, &dashboard); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		found = append(found, dashboard)
	}
	return found, nil
}

// Rules of a file of alerts, in its order.
func Rules(file string) (found []rulefmt.Rule, err error) {
	groups, problems := rulefmt.ParseFile(file, false, model.UTF8Validation)
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	for _, group := range groups.Groups {
		found = append(found, group.Rules...)
	}
	return found, nil
}

// Names of the metrics that an expression selects, as Prometheus has them: with _bucket, _count or _sum.
func Names(expression string) (found []string, err error) {
	parsed, err := parser.ParseExpr(expression)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expression, err)
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			found = append(found, selector.Name)
		}
		return nil
	})
	return found, nil
}
