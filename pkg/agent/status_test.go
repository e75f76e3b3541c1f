// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/allocator"
	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/agent/status"
)

// sourceOf is what the loop holds of EC2's truth.
type sourceOf struct {
	allocator.Source // not asked
	enis, offered    []eni.ENI
}

func (s sourceOf) ENIs() []eni.ENI { return s.enis }
func (s sourceOf) Pool() []eni.ENI { return s.offered }

// serving is an agent that serves its sockets and ports, and whose loop has made a step.
func serving(t *testing.T) *Agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // a socket's path is short
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	a := &Agent{
		opts: Options{NodeName: "n", StateDir: dir, MetricsAddress: "127.0.0.1:0", HealthAddress: "127.0.0.1:0"},
		log:  slog.New(slog.NewTextHandler(t.Output(), nil)), metrics: newMetrics(), asks: make(chan ask), wake: make(chan struct{}, 1),
		linkSince: map[string]time.Time{}, kernel: &datapath.Keeper{},
	}
	a.leases, err = lease.Open(dir)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	require.NoError(t, a.serveHealth(ctx))
	require.NoError(t, a.serve(ctx))
	return a
}

func TestTheStatusTellsWhoHasWhichAddress(t *testing.T) {
	a := serving(t)
	whole, returning := netip.MustParsePrefix("100.64.0.16/28"), netip.MustParsePrefix("100.64.0.32/28")
	single := netip.MustParsePrefix("100.64.0.99/32")
	e := eni.ENI{ID: "eni-1", MAC: "02:00:00:00:00:01", Subnet: "subnet-1", DeviceIndex: 1, Primary: netip.MustParseAddr("100.64.0.5"), Prefixes: []netip.Prefix{whole, returning, single}}
	offered := e
	offered.Prefixes = []netip.Prefix{whole, single}
	a.source, a.targets, a.waiting = sourceOf{enis: []eni.ENI{e}, offered: []eni.ENI{offered}}, &pool.Targets{Prefix: 1}, 2
	now := time.Now()
	acquire := func(container string, prefixes ...netip.Prefix) netip.Addr {
		address, err := a.leases.Acquire(lease.Request{
			Owner: lease.Owner{ContainerID: container, IfName: "eth0"}, Pod: "default/" + container, Now: now,
			Pool: func() (lease.Pool, error) { return lease.Pool{Prefixes: prefixes, Cooldown: time.Hour}, nil },
		})
		require.NoError(t, err)
		return address
	}
	acquire("first", whole)
	acquire("second", whole)
	acquire("third", whole)
	acquire("lost", netip.MustParsePrefix("192.0.2.0/28"))
	require.NoError(t, a.leases.Release(lease.Owner{ContainerID: "second", IfName: "eth0"}, now))
	a.lacking, a.notBefore = short(eni.NoFreePrefix, "no /28 is left"), now.Add(time.Hour)
	for range 3 {
		a.errors.add(string(eni.NoFreePrefix), "no /28 is left", now)
	}
	a.see(supply{capacity: 17, free: 14, lacking: a.lacking}.condition())

	socket := filepath.Join(a.opts.StateDir, "agent.sock")
	s, err := status.Get(t.Context(), socket)
	require.NoError(t, err)
	require.Equal(t, status.Version, s.Version)
	require.Equal(t, "n", s.Node)
	require.Equal(t, "Dynamic", s.Source)
	require.Equal(t, status.Addresses{Total: 33, Leased: 2, Cooling: 1, Free: 14, Returning: 16, Waiting: 2}, s.Addresses)
	require.Equal(t, &status.Targets{Prefix: 1}, s.Targets)
	require.WithinDuration(t, a.notBefore, *s.BackoffUntil, 0)
	var maps []string
	for _, p := range s.ENIs[0].Prefixes {
		maps = append(maps, p.Map())
	}
	require.Equal(t, []string{"#~#·············", "----------------", "·"}, maps)
	require.Len(t, s.Errors, 1)
	require.Equal(t, 3, s.Errors[0].Count)
	require.Equal(t, []string{"the agent has not set up the kernel yet"}, s.Incomplete)

	var out bytes.Buffer
	require.NoError(t, status.Print(&out, s))
	t.Log("\n" + out.String())
	for _, line := range []string{
		"ready         True, AddressesAvailable: pods get addresses; there are no more of them now: NoFreePrefix: no /28 is left",
		"addresses     33: 2 leased, 1 cooling, 14 free, 16 being given back; 2 pods wait", "eni-1  100.64.0.5 in subnet-1, device 1, table 1001, 02:00:00:00:00:01",
		"  100.64.0.16/28      #~#·············\n", "  100.64.0.32/28      ----------------  being given back\n", "100.64.0.16  default/first  first", "100.64.0.18  default/third  third",
		"1 of these addresses are on no ENI", "3      NoFreePrefix  no /28 is left",
	} {
		require.Contains(t, out.String(), line)
	}
}

func TestTheStatusAnswersBeforeTheFirstStepAndTakesNoOrders(t *testing.T) {
	a := serving(t)
	socket := filepath.Join(a.opts.StateDir, "agent.sock")
	s, err := status.Get(t.Context(), socket)
	require.NoError(t, err)
	require.Equal(t, status.Condition{Status: "False", Reason: string(starting), Message: "the node agent gets the first addresses"}, s.Ready)
	require.Empty(t, s.ENIs)

	poster := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://agent"+status.Path, strings.NewReader("{}"))
		require.NoError(t, err)
		response, err := poster.Do(request)
		require.NoError(t, err)
		response.Body.Close()
		require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode, method)
	}
}

func TestAMissingAgentIsSaidSo(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "agent.sock")
	_, err := status.Get(t.Context(), socket)
	require.ErrorContains(t, err, "no node agent has run here")
	require.ErrorContains(t, err, "kubectl dovetail node status NODE")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: socket})
	require.NoError(t, err)
	listener.SetUnlinkOnClose(false) // as one that was killed leaves it
	require.NoError(t, listener.Close())
	_, err = status.Get(t.Context(), socket)
	require.ErrorContains(t, err, "the node agent is not running")
}

func TestTheErrorsOfLateAreTheLastOnes(t *testing.T) {
	var r recent
	now := time.Now()
	for i := range 2 * recentLimit {
		r.add("R", fmt.Sprint("error ", i), now)
		r.add("R", "again and again", now)
	}
	list := r.list()
	require.Len(t, list, recentLimit)
	require.Equal(t, 2*recentLimit, list[0].Count)
	require.Equal(t, fmt.Sprint("error ", 2*recentLimit-1), list[1].Message)
}
