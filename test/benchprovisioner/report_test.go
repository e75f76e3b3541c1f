// SPDX-License-Identifier: Apache-2.0

package benchprovisioner

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
)

// results of a run.
type results struct {
	CPUs        int                `json:"cpus"`
	LoadBefore  string             `json:"loadBefore"` // of the machine, over a minute
	LoadAfter   string             `json:"loadAfter"`
	Lists       []figure           `json:"lists"`
	Launches    []launchFigure     `json:"launches"`
	Scheduling  []scheduleFigure   `json:"scheduling"`
	Blocks      figure             `json:"blocks"`
	Controllers []controllerFigure `json:"controllers"`
}

// save what there is so far: a run may take an hour.
func (r *results) save(t *testing.T, path string) {
	content, err := json.MarshalIndent(r, "", "  ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(content, '\n'), 0o644)) //nolint:gosec // for all to read
}

func (r *results) report(t *testing.T, path string) {
	r.save(t, path)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row := func(format string, args ...any) { fmt.Fprintf(table, format+"\n", args...) }
	row("%d CPUs; load %s before, %s after", r.CPUs, r.LoadBefore, r.LoadAfter)
	row("\nlisting all instance types\tcount\tp50 ms\tp99 ms\tof upstream's\tobjects\tMB")
	for _, f := range r.Lists {
		row("%s\t%d\t%s\t%s\t%s\t%d\t%.2f", f.Name, f.Count, ms(f.P50), ms(f.P99), ratio(f), f.Allocated.Objects, float64(f.Allocated.Bytes)/1e6)
	}
	row("\nlaunch besides EC2\tcount\tp50 ms\tp99 ms\tmore than upstream ms\tEC2 calls a launch")
	for _, f := range r.Launches {
		row("%s\t%d\t%s\t%s\t%s\t%s", f.Name, f.Count, ms(f.P50), ms(f.P99), ms(f.More), calls(f.Calls))
	}
	row("\nscheduling\trounds\tpods\tnew nodes\tp50 ms\tof upstream's")
	for _, f := range r.Scheduling {
		row("%s\t%d\t%d\t%d\t%s\t%s", f.Name, f.Count, f.Pods, f.Nodes, ms(f.P50), ratio(f.figure))
	}
	row("\ncounting\tcount\tp50 ms\tp99 ms")
	row("%s\t%d\t%s\t%s", r.Blocks.Name, r.Blocks.Count, ms(r.Blocks.P50), ms(r.Blocks.P99))
	if len(r.Controllers) > 0 {
		row("\ncontroller\tnodes\tpods\tidle RSS MB\tof upstream's\tRSS MB\tof upstream's\tEC2 calls a node")
	}
	for _, f := range r.Controllers {
		row("%s\t%d\t%d\t%.1f\t%.2f\t%.1f\t%.2f\t%s", f.Name, f.Nodes, f.Pods, float64(f.Idle)/1e6, f.IdleRatio, float64(f.RSS)/1e6, f.Ratio, calls(f.Calls))
	}
	require.NoError(t, table.Flush())
	fmt.Println()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1000) }

func ratio(f figure) string {
	if f.Ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", f.Ratio)
}

// calls by operation, the most frequent first.
func calls(perUnit map[string]float64) string {
	names := slices.SortedFunc(maps.Keys(perUnit), func(a, b string) int {
		if perUnit[a] != perUnit[b] {
			if perUnit[a] > perUnit[b] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	total, parts := 0.0, []string(nil)
	for _, name := range names {
		total += perUnit[name]
		parts = append(parts, fmt.Sprintf("%s %.2f", name, perUnit[name]))
	}
	return fmt.Sprintf("%.2f: %s", total, strings.Join(parts, ", "))
}
