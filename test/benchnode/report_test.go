// SPDX-License-Identifier: Apache-2.0

package benchnode

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// results of a run.
type results struct {
	CPUs       int            `json:"cpus"`
	LoadBefore string         `json:"loadBefore"` // of the machine, over a minute
	LoadAfter  string         `json:"loadAfter"`
	Programs   []program      `json:"programs"`
	Plugin     []figure       `json:"plugin"`
	Bursts     []burstFigure  `json:"bursts"`
	Memory     []memory       `json:"memory"`
	Kernel     []kernelCount  `json:"kernel"`
	Packets    []packetFigure `json:"packets"`
}

// program that a node gets; what of it is used counts in the memory of its process.
type program struct {
	Name string `json:"name"`
	Size int64  `json:"bytes"`
}

func programs(t *testing.T) (found []program) {
	for _, name := range []string{"cni", "agent"} {
		info, err := os.Stat(filepath.Join(controlplanetest.BinDir(), name))
		require.NoError(t, err)
		found = append(found, program{name, info.Size()})
	}
	return found
}

func (r *results) report(t *testing.T, path string) {
	content, err := json.MarshalIndent(r, "", "  ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(content, '\n'), 0o644))

	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row := func(format string, args ...any) { fmt.Fprintf(table, format+"\n", args...) }
	row("%d CPUs; load %s before, %s after", r.CPUs, r.LoadBefore, r.LoadAfter)
	row("\nprogram\tMB")
	for _, p := range r.Programs {
		row("%s\t%.1f", p.Name, mb(p.Size))
	}
	row("\nplugin\tcount\tp50 ms\tp99 ms\tratio of p50")
	for _, f := range r.Plugin {
		ratio := ""
		if f.To != "" {
			ratio = fmt.Sprintf("%.2f × %s", f.Ratio, short(f.To))
		}
		row("%s\t%d\t%.2f\t%.2f\t%s", f.Name, f.Count, f.P50.Seconds()*1000, f.P99.Seconds()*1000, ratio)
	}
	row("\nburst\tpods\tfirst address s\tlast address s\tEC2 calls")
	for _, b := range r.Bursts {
		row("%s\t%d\t%.2f\t%.2f\t%s", b.Name, b.Pods, b.First.Seconds(), b.Last.Seconds(), b.calls())
	}
	row("\nagent's memory, MB\tRSS\tof it anonymous\tof files\tPSS\tprivate")
	for _, m := range r.Memory {
		row("%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f", m.Name, mb(m.RSS), mb(m.Anonymous), mb(m.File), mb(m.PSS), mb(m.Private))
	}
	row("\nkernel\tprefixes\trules\troutes to pods\tother routes\tnftables: rules\telements")
	for _, k := range r.Kernel {
		row("%s\t%d\t%d\t%d\t%d\t%d\t%d", k.Name, k.Prefixes, k.Rules, k.PodRoutes, k.Routes, k.NftRules, k.NftElements)
	}
	row("\npackets from pod to pod across nodes\ta second\tround trip p50 µs\tp99 µs")
	for _, p := range r.Packets {
		row("%s\t%.0f\t%.1f\t%.1f", p.Name, p.PerSecond, p.P50.Seconds()*1e6, p.P99.Seconds()*1e6)
	}
	if len(r.Packets) == 2 {
		one, many := r.Packets[0], r.Packets[1]
		row("ratio\t%.2f\t%.2f\t%.2f", many.PerSecond/one.PerSecond, float64(many.P50)/float64(one.P50), float64(many.P99)/float64(one.P99))
	}
	require.NoError(t, table.Flush())
	_, err = io.WriteString(os.Stdout, "\n")
	require.NoError(t, err)
}

func short(name string) string {
	name, _, _ = strings.Cut(name, " (")
	return name
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }
