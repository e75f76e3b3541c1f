// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

func TestAnAgentIsReadyOnceItHasPublishedAndAsLongAsItsLoopTurns(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		published bool
		last      time.Duration // before now; 0: no step has ended
		want      string
	}{
		"it connects":                           {false, 0, "the first look at the node has not ended"},
		"the first step did not come to an end": {false, time.Second, "no pool of addresses has been published since the start"},
		"it serves":                             {true, time.Second, ""},
		"it has waited a whole period":          {true, period, ""},
		"it is throttled at length":             {true, lastBackoff + period, ""},
		"it hangs":                              {true, stalled + time.Second, "the last look at the node ended 2m31s ago"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &readiness{}
			r.published.Store(c.published)
			if c.last > 0 {
				at := now.Add(-c.last)
				r.stepped.Store(&at)
			}
			if err := r.check(now); c.want == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, c.want)
			}
		})
	}
}

// The probe goes by the plugins' door: what serves no plugin is not ready.
func TestTheProbeHearsWhatTheSocketSays(t *testing.T) {
	a := serving(t)
	socket := filepath.Join(a.opts.StateDir, cni.SocketName)
	probe := func(path string) (int, string) {
		response, err := http.Get("http://" + a.health.String() + path)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	requireUnready := func(reason string) {
		t.Helper()
		code, body := probe(readyPath)
		require.Equal(t, http.StatusServiceUnavailable, code)
		require.Contains(t, body, reason)
		code, _ = probe("/healthz")
		require.Equal(t, http.StatusOK, code, "it is alive")
	}
	requireUnready("the first look at the node has not ended")
	a.lacking = short(eni.Unauthorized, "the node's IAM role lacks a right")
	a.see(supply{lacking: a.lacking}.condition())
	a.readiness.step()
	requireUnready("no pool of addresses has been published since the start (MissingIAMPermissions: the node's IAM role lacks a right)")
	a.readiness.published.Store(true)
	code, _ := probe(readyPath)
	require.Equal(t, http.StatusOK, code)

	require.NoError(t, os.Rename(socket, socket+".away"))
	requireUnready("plugins reach nobody")
	other, err := net.Listen("unix", socket) // of a program that is no agent
	require.NoError(t, err)
	go http.Serve(other, http.NotFoundHandler()) //nolint:errcheck,gosec // it ends with the test
	requireUnready("404")
	require.NoError(t, other.Close())
	require.NoError(t, os.Rename(socket+".away", socket))
	code, _ = probe(readyPath)
	require.Equal(t, http.StatusOK, code)
	code, _ = probe("/")
	require.Equal(t, http.StatusNotFound, code)
}
