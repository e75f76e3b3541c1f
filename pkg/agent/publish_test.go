// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"log/slog"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// The container runtime reports the network ready, and so the node, from the first CNI configuration that it finds
// (amazon-vpc-cni-k8s #1923, #1724, #2808).
func TestANodeIsNeverReadyBeforeItHasAddresses(t *testing.T) {
	a := &Agent{opts: Options{CNIConfDir: t.TempDir(), StateDir: t.TempDir()}, log: slog.New(slog.DiscardHandler)}
	configurations := func() int {
		entries, err := os.ReadDir(a.opts.CNIConfDir)
		require.NoError(t, err)
		return len(entries)
	}
	for what, doc := range map[string]*pool.Document{
		"no ENI":                   {},
		"an ENI without addresses": {ENIs: []pool.ENI{{ID: "eni-1"}}},
	} {
		require.NoError(t, a.announce(doc))
		require.Zero(t, configurations(), what)
	}
	require.NoError(t, a.announce(&pool.Document{ENIs: []pool.ENI{{ID: "eni-1", Prefixes: []netip.Prefix{netip.MustParsePrefix("100.64.0.16/28")}}}}))
	require.Equal(t, 1, configurations())
}
