// SPDX-License-Identifier: Apache-2.0

// Package benchnode measures what pods cost on a node: `make bench-node`. Times are also given as ratios to something that is
// measured in the same run, because machines differ and are noisy.
package benchnode

import (
	"flag"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns/netnstest"
)

var (
	rounds     = flag.Int("rounds", 500, "pods one after the other")
	concurrent = flag.Int("concurrent", 30, "pods at once")
	burst      = flag.Int("burst", 64, "pods of a burst")
	out        = flag.String("out", "", "file for the figures as JSON")
)

func TestMain(m *testing.M) {
	flag.Parse()
	netnstest.Main(m)
}

// TestTheNode is no test of speed: it fails when an operation does.
func TestTheNode(t *testing.T) {
	if *out == "" {
		t.Skip("make bench-node runs this")
	}
	r := &results{CPUs: runtime.NumCPU(), LoadBefore: load(t), Programs: programs(t)}
	t.Run("PodsStartAndEnd", func(t *testing.T) { startAndEndPods(t, r) })
	t.Run("OnInstances", func(t *testing.T) {
		w := newWorld(t)
		t.Run("Bursts", func(t *testing.T) { r.Bursts = bursts(t, w) })
		t.Run("Memory", func(t *testing.T) { r.Memory = memories(t, w) })
		t.Run("KernelAndPackets", func(t *testing.T) { r.Kernel, r.Packets = packetsAcrossNodes(t, w) })
	})
	r.LoadAfter = load(t)
	r.report(t, *out)
}

// load of the machine over the last minute.
func load(t *testing.T) string {
	content, err := os.ReadFile("/proc/loadavg")
	require.NoError(t, err)
	return strings.Fields(string(content))[0]
}
