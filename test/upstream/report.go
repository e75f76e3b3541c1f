// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// spec of the suite, and what became of it.
type spec struct {
	container, text string // the text begins with the container's
	skipped         string // why it is not to run
	asked           bool   // skipped because the command line says so
	state           string // in Ginkgo's words; "" when it did not run
	took            time.Duration
	failure         string
}

const passed = "passed"

// listSpecs asks the suite.
func listSpecs(ctx context.Context, suite, work string) ([]spec, error) {
	report := filepath.Join(work, "specs.json")
	if out, err := exec.CommandContext(ctx, suite, "--ginkgo.dry-run", "--ginkgo.json-report="+report).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("listing the suite's specs: %w\n%s", err, out)
	}
	return readReport(report)
}

// readReport reads Ginkgo's report in JSON.
func readReport(path string) ([]spec, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var reports []struct {
		SpecReports []struct {
			ContainerHierarchyTexts []string
			LeafNodeType            string
			LeafNodeText            string
			State                   string
			RunTime                 time.Duration
			Failure                 struct {
				Message  string
				Location struct {
					FileName   string
					LineNumber int
				}
			}
		}
	}
	if err := json.Unmarshal(content, &reports); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var specs []spec
	for _, report := range reports {
		for _, s := range report.SpecReports {
			if s.LeafNodeType != "It" || len(s.ContainerHierarchyTexts) == 0 {
				continue
			}
			result := spec{
				container: s.ContainerHierarchyTexts[0], state: s.State, took: s.RunTime,
				text: strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " "),
			}
			if s.Failure.Message != "" {
				message, _, _ := strings.Cut(strings.TrimSpace(s.Failure.Message), "\n")
				result.failure = fmt.Sprintf("%s:%d: %s", filepath.Base(s.Failure.Location.FileName), s.Failure.Location.LineNumber, message)
			}
			specs = append(specs, result)
		}
	}
	return specs, nil
}

// printTable of all specs, and returns how many of those that were to run did not pass.
func printTable(out io.Writer, specs []spec) (failed int) {
	counts := map[string]int{}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range specs {
		switch {
		case s.asked:
			counts["not asked for"]++
			continue
		case s.skipped != "":
			counts["skipped, with a reason"]++
			fmt.Fprintf(table, "-\t%s\t\t%s\n", s.text, s.skipped)
		case s.state == passed:
			counts[passed]++
			fmt.Fprintf(table, "✓\t%s\t%.0f s\t\n", s.text, s.took.Seconds())
		default:
			counts["not passed"]++
			fmt.Fprintf(table, "✗\t%s\t%.0f s\t%s\n", s.text, s.took.Seconds(), strings.TrimSpace(s.state+" "+s.failure))
		}
	}
	_ = table.Flush() // a terminal
	for _, what := range []string{passed, "not passed", "skipped, with a reason", "not asked for"} {
		fmt.Fprintf(out, "%d %s; ", counts[what], what)
	}
	fmt.Fprintf(out, "%d in all\n", len(specs))
	return counts["not passed"]
}
