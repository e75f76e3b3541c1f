// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

const (
	crashRounds = 500
	crashPods   = 10
)

// plugin runs the built plugin as a runtime does.
func plugin(command string, args *skel.CmdArgs) *exec.Cmd {
	cmd := exec.Command(filepath.Join(controlplanetest.BinDir(), "cni"))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+args.ContainerID, "CNI_NETNS="+args.Netns,
		"CNI_IFNAME="+args.IfName, "CNI_ARGS="+args.Args, "CNI_PATH=/opt/cni/bin")
	cmd.Stdin = bytes.NewReader(args.StdinData)
	return cmd
}

// TestAKillAtAnyInstantLeavesNothingThatGCDoesNotMend starts and stops pods on the real kernel and kills the plugin in the
// middle.
func TestAKillAtAnyInstantLeavesNothingThatGCDoesNotMend(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret
	dir := node(t, "100.64.0.16/28")
	restAtOnce(t, dir)
	var pods []*skel.CmdArgs
	for range crashPods {
		pods = append(pods, call(t, dir))
	}
	longest := duration(t, plugin("ADD", pods[0]))
	running := map[*skel.CmdArgs]bool{pods[0]: true} // their ADD has succeeded, and no DEL was tried since
	killed := 0
	for round := range crashRounds {
		pod := pods[random.IntN(len(pods))]
		command := "ADD"
		if running[pod] || random.IntN(4) == 0 {
			command = "DEL"
		}
		delete(running, pod)
		if run(t, plugin(command, pod), time.Duration(random.Int64N(int64(longest*3/2)))) {
			running[pod] = command == "ADD"
			if command == "DEL" {
				delete(running, pod)
			}
		} else {
			killed++
		}
		if round%20 == 19 || round == crashRounds-1 {
			// A runtime's GC may be killed too; the next one goes on.
			run(t, plugin("GC", &skel.CmdArgs{StdinData: known(t, dir, running)}), time.Duration(random.Int64N(int64(longest*3/2))))
			mend(t, dir, running)
		}
	}
	t.Logf("%d of %d runs were killed", killed, crashRounds)
	require.NotZero(t, killed)

	mend(t, dir, nil)
	var addresses []string
	for i := range 16 { // none is lost: each of the prefix's addresses can be given
		store, err := lease.Open(dir)
		require.NoError(t, err)
		a, err := store.Acquire(lease.Request{
			Owner: lease.Owner{ContainerID: fmt.Sprint("last-", i), IfName: "eth0"}, Pod: "default/last", Now: time.Now(),
			Pool: func() (lease.Pool, error) {
				return lease.Pool{Prefixes: []netip.Prefix{netip.MustParsePrefix("100.64.0.16/28")}}, nil
			},
		})
		require.NoError(t, err)
		require.NotContains(t, addresses, a.String())
		addresses = append(addresses, a.String())
	}
}

// restAtOnce publishes the pool without a time of rest, so that addresses come back at once.
func restAtOnce(t *testing.T, dir string) {
	doc, err := pool.Read(dir)
	require.NoError(t, err)
	doc.CooldownSeconds = 0
	require.NoError(t, pool.Write(dir, doc))
}

func duration(t *testing.T, cmd *exec.Cmd) time.Duration {
	started := time.Now()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return time.Since(started)
}

// run starts a command, kills it after a while, and tells whether it had come to its end by then.
func run(t *testing.T, cmd *exec.Cmd, after time.Duration) bool {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // it may have ended
	defer timer.Stop()
	err := cmd.Wait()
	if err != nil && cmd.ProcessState.Exited() {
		require.NoError(t, err, out.String()) // it was not killed: it failed
	}
	return err == nil
}

// known is the configuration of a GC, with the pods that run.
func known(t *testing.T, dir string, running map[*skel.CmdArgs]bool) []byte {
	valid := []any{}
	for pod := range running {
		valid = append(valid, map[string]any{"containerID": pod.ContainerID, "ifname": pod.IfName})
	}
	return configuration(t, dir, map[string]any{"cni.dev/valid-attachments": valid})
}

// mend runs GC with the pods that run, and compares leases, routes and links with them.
func mend(t *testing.T, dir string, running map[*skel.CmdArgs]bool) {
	t.Helper()
	require.NoError(t, cni.GC(&skel.CmdArgs{StdinData: known(t, dir, running)}))
	wanted := map[string]bool{}
	for pod := range running {
		wanted[pod.ContainerID] = true
	}

	store, err := lease.Open(dir)
	require.NoError(t, err)
	leases, err := store.List()
	require.NoError(t, err)
	held, routed := map[string]bool{}, map[string]bool{}
	for _, l := range leases {
		require.True(t, wanted[l.ContainerID], "a lease of %s, which does not run", l.ContainerID)
		require.False(t, held[l.Address.String()], "%s is leased twice", l.Address)
		held[l.Address.String()] = true
	}
	require.Len(t, held, len(wanted))
	for _, route := range podRoutes(t) {
		require.True(t, held[route.Dst.IP.String()], "a stray route to %s", route.Dst)
		routed[route.Dst.IP.String()] = true
	}
	require.Equal(t, held, routed)
	links, err := netlink.LinkList()
	require.NoError(t, err)
	count := 0
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, cni.HostPrefix) {
			count++
		}
	}
	require.Equal(t, len(wanted), count, "links of pods on the host")
}
