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

// Expression is what a panel or an alert asks for.
type Expression struct {
	Text string
	// Where it stands, for people.
	Where string
	Alert bool
}

// Expressions of a folder with dashboards/*.json and rules.yaml.
func Expressions(dir string) (found []Expression, err error) {
	dashboards, err := Dashboards(filepath.Join(dir, "dashboards"))
	if err != nil {
		return nil, err
	}
	for _, dashboard := range dashboards {
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				found = append(found, Expression{Text: target.Expr, Where: dashboard.File + ": " + panel.Title})
			}
		}
	}
	rules, err := Rules(filepath.Join(dir, "rules.yaml"))
	if err != nil {
		return nil, err
	}
	for _, rule := range rules {
		found = append(found, Expression{Text: rule.Expr, Where: "rules.yaml: " + rule.Alert, Alert: true})
	}
	return found, nil
}

// Names of the metrics that it selects, as Prometheus has them: with _bucket, _count or _sum.
func (e Expression) Names() (found []string, err error) {
	parsed, err := parser.ParseExpr(e.Text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Where, err)
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			found = append(found, selector.Name)
		}
		return nil
	})
	return found, nil
}
