// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

// answerPlugins serves the agent's socket.
func answerPlugins(t *testing.T, dir string, handle http.HandlerFunc) {
	socket, err := net.Listen("unix", filepath.Join(dir, cni.SocketName))
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+cni.GrowPath, handle)
	server := &http.Server{Handler: mux} //nolint:gosec // nobody attacks it
	go server.Serve(socket)              //nolint:errcheck // it ends with the test
	t.Cleanup(func() { server.Close() })
}

func TestAddOnAnEmptyPoolAsksTheAgentOnceAndTakesWhatItGot(t *testing.T) {
	dir := node(t, "100.64.0.5/32")
	require.Equal(t, "100.64.0.5/32", <-start(t, call(t, dir)))
	asked := 0
	answerPlugins(t, dir, func(http.ResponseWriter, *http.Request) {
		asked++
		doc, err := pool.Read(dir)
		if assert.NoError(t, err) {
			doc.ENIs[0].Prefixes = append(doc.ENIs[0].Prefixes, netip.MustParsePrefix("100.64.0.6/32"))
			assert.NoError(t, pool.Write(dir, doc))
		}
	})
	require.Equal(t, "100.64.0.6/32", <-start(t, call(t, dir)))
	require.Equal(t, 1, asked)
}

func TestAnEmptyPoolIsExplainedWhateverTheAgentDoes(t *testing.T) {
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		text   string
	}{
		"it has a reason": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "the pod subnet has no free /28", http.StatusServiceUnavailable)
		}, "the pod subnet has no free /28"},
		"it is killed":             {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "ended before it answered"},
		"it says yes and has none": {func(http.ResponseWriter, *http.Request) {}, "all 1 addresses of the node are leased"},
		"it speaks something else": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if assert.NoError(t, err) {
				_, _ = conn.Write([]byte("220 hello\r\n"))
				_ = conn.Close()
			}
		}, `what is no HTTP: "220 hello`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := node(t, "100.64.0.5/32")
			require.Equal(t, "100.64.0.5/32", <-start(t, call(t, dir)))
			answerPlugins(t, dir, c.handle)
			_, err := add(t, call(t, dir))
			require.EqualValues(t, types.ErrTryAgainLater, code(t, err))
			require.ErrorContains(t, err, c.text)
		})
	}
}
