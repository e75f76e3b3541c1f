// SPDX-License-Identifier: Apache-2.0

// Package benchprovisioner measures what Dovetail's parts cost the provisioner: `make bench-provisioner`. Everything is measured
// with and without them in the same run, in turn, because machines differ and are noisy.
package benchprovisioner

import (
	"flag"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/dovetail-dev/dovetail/pkg/apis"
)

var (
	lists       = flag.Int("lists", 200, "listings of all instance types on each side")
	launches    = flag.Int("launches", 100, "launches one after the other, and at once, on each side")
	rounds      = flag.Int("rounds", 3, "rounds of scheduling, of launches at once, on each side")
	pods        = flag.Int("pods", 1000, "pods to schedule")
	nodes       = flag.Int("nodes", 100, "nodes of each controller; 0 leaves out the controllers' memory and calls")
	podsPerNode = flag.Int("pods-per-node", 10, "pods on each of these nodes")
	idle        = flag.Duration("idle", 3*time.Minute, "how long each of these controllers has nothing to do first")
	out         = flag.String("out", "", "file for the figures as JSON")
)

// TestTheProvisioner is no test of speed: it fails when an operation does.
func TestTheProvisioner(t *testing.T) {
	if *out == "" {
		t.Skip("make bench-provisioner runs this")
	}
	apis.Register(scheme.Scheme)
	r := &results{CPUs: runtime.NumCPU(), LoadBefore: load(t)}
	part := func(t *testing.T, name string, measure func(*testing.T)) {
		t.Run(name, measure)
		r.save(t, *out)
	}
	t.Run("InOneProcess", func(t *testing.T) {
		w := newWorld(t)
		part(t, "Lists", func(t *testing.T) { r.Lists = listInstanceTypes(t, w) })
		part(t, "Launches", func(t *testing.T) { r.Launches = launchNodes(t, w) })
		part(t, "Scheduling", func(t *testing.T) { r.Scheduling = schedulePods(t, w) })
	})
	part(t, "Blocks", func(t *testing.T) { r.Blocks = countBlocks(t) })
	t.Run("Controllers", func(t *testing.T) {
		if *nodes == 0 {
			t.Skip("-nodes 0")
		}
		runControllers(t, func(f controllerFigure) {
			r.Controllers = append(r.Controllers, f)
			r.save(t, *out)
		})
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
