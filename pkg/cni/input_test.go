// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/cni"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// nothingLeft checks that an ADD that failed left neither a lease nor a route nor a link on the host.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	require.Empty(t, podRoutes(t))
	store, err := lease.Open(dir)
	require.NoError(t, err)
	leases, err := store.List()
	require.NoError(t, err)
	require.Empty(t, leases)
	links, err := netlink.LinkList()
	require.NoError(t, err)
	for _, link := range links {
		require.False(t, strings.HasPrefix(link.Attrs().Name, cni.HostPrefix), link.Attrs().Name)
	}
}

func TestALinkThatIsNotOursIsNeverTaken(t *testing.T) {
	dir := node(t, "100.64.0.16/28")
	args := call(t, dir)
	inPod := func(f func()) {
		require.NoError(t, netns.Do(args.Netns, func() error { f(); return nil }))
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	inPod(func() { require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "other"})) })

	_, err := add(t, args)
	require.ErrorContains(t, err, "has a link named eth0 already")
	nothingLeft(t, dir)
	require.NoError(t, cni.Del(args), "the runtime calls DEL after an ADD that failed")
	inPod(func() {
		_, err := netlink.LinkByName("eth0")
		require.NoError(t, err, "another's link is still there")
	})
}

func TestBadInputIsRefusedWithTheSpecificationsCode(t *testing.T) {
	dir := node(t, "100.64.0.16/28")
	for name, c := range map[string]struct {
		change func(*skel.CmdArgs)
		code   uint
		text   string
	}{
		"a configuration that is no JSON": {
			func(a *skel.CmdArgs) { a.StdinData = []byte(`{"cniVersion":`) }, types.ErrDecodingFailure, "configuration is not valid"},
		"a previous result that is none": {
			func(a *skel.CmdArgs) {
				a.StdinData = configuration(t, dir, map[string]any{"prevResult": map[string]any{"ips": 7}})
			},
			types.ErrDecodingFailure, "previous result is not valid"},
		"arguments without a value": {
			func(a *skel.CmdArgs) { a.Args = "K8S_POD_NAME" }, types.ErrInvalidEnvironmentVariables, "CNI_ARGS is not valid"},
		"a network namespace that is a file": {
			func(a *skel.CmdArgs) {
				a.Netns = filepath.Join(t.TempDir(), "file")
				require.NoError(t, os.WriteFile(a.Netns, nil, 0o600))
			}, types.ErrInvalidNetNS, "the pod has no network namespace"},
		"a network namespace that is gone": {
			func(a *skel.CmdArgs) { a.Netns = "/run/netns/never-was" }, types.ErrInvalidNetNS, "the pod has no network namespace"},
		"the network namespace of the node": {
			func(a *skel.CmdArgs) { a.Netns = "/proc/thread-self/ns/net" }, types.ErrInvalidNetNS, "the node's own network namespace"},
		"a pool of a later release": {
			func(a *skel.CmdArgs) {
				later := t.TempDir()
				require.NoError(t, os.WriteFile(filepath.Join(later, "pool.json"), []byte(`{"version": 99}`), 0o600))
				a.StdinData = configuration(t, later, nil)
			}, types.ErrInternal, "different releases"},
		"a state directory that cannot be made": {
			func(a *skel.CmdArgs) {
				file := filepath.Join(t.TempDir(), "file")
				require.NoError(t, os.WriteFile(file, nil, 0o600))
				a.StdinData = configuration(t, file, nil)
			}, types.ErrInternal, "leases cannot be opened"},
	} {
		t.Run(name, func(t *testing.T) {
			args := call(t, dir)
			c.change(args)
			_, err := add(t, args)
			require.Equal(t, c.code, code(t, err), "%v", err)
			require.ErrorContains(t, err, c.text)
			nothingLeft(t, dir)
		})
	}
}

// TestAFullFileSystemFailsPodsThatStartAndNoneThatEnd has the state directory on a small tmpfs, as /run may be.
func TestAFullFileSystemFailsPodsThatStartAndNoneThatEnd(t *testing.T) {
	for name, option := range map[string]string{"no block is left": "size=128k", "no file is left": "nr_inodes=32"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, option))
			t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
			content, err := os.ReadFile(filepath.Join(node(t, "100.64.0.16/28"), "pool.json"))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "pool.json"), content, 0o600))
			before, after := call(t, dir), call(t, dir)
			_, err = add(t, before)
			require.NoError(t, err)
			for i := 0; err == nil; i++ {
				err = os.WriteFile(filepath.Join(dir, fmt.Sprint("filling-", i)), make([]byte, 4096), 0o600)
			}
			require.ErrorIs(t, err, unix.ENOSPC)

			_, err = add(t, after)
			require.Equal(t, types.ErrIOFailure, code(t, err), "%v", err)
			require.ErrorContains(t, err, "the file system of the state directory is full")
			require.Len(t, podRoutes(t), 1)
			require.NoError(t, cni.Del(after))
			require.NoError(t, cni.Del(before))
			nothingLeft(t, dir)
			cooling, err := os.ReadDir(filepath.Join(dir, "cooling"))
			require.NoError(t, err)
			require.Len(t, cooling, 1, "its address rests")
			for _, left := range []string{"owners", "new"} {
				entries, err := os.ReadDir(filepath.Join(dir, left))
				require.NoError(t, err)
				require.Empty(t, entries)
			}
		})
	}
}

func TestResultsAreThoseOfTheConfigurationsVersion(t *testing.T) {
	dir := node(t, "100.64.0.16/28")
	for _, version := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			args := call(t, dir)
			args.StdinData = configuration(t, dir, map[string]any{"cniVersion": version})
			result, err := add(t, args)
			require.NoError(t, err)
			require.Equal(t, version, result["cniVersion"])
			ip := result["ips"].([]any)[0].(map[string]any)
			require.Equal(t, "169.254.1.1", ip["gateway"])
			require.EqualValues(t, 1, ip["interface"])
			if version == "0.4.0" {
				require.Equal(t, "4", ip["version"])
			}
			route := result["routes"].([]any)[0].(map[string]any)
			require.Equal(t, map[string]any{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, route)
			args.StdinData = configuration(t, dir, map[string]any{"cniVersion": version, "prevResult": result})
			require.NoError(t, cni.Check(args))
			require.NoError(t, cni.Del(args))
		})
	}
}

// FuzzInput calls the plugin as a runtime that writes nonsense would. It may refuse, it may not panic or leave anything.
func FuzzInput(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"dovetail","type":"dovetail"}`), "IgnoreUnknown=1;K8S_POD_NAME=web")
	f.Add([]byte(`{"prevResult":{}}`), ";;=")
	f.Fuzz(func(t *testing.T, stdin []byte, cniArgs string) {
		var own struct{ StateDir string }
		if json.Unmarshal(stdin, &own); own.StateDir != "" { //nolint:errcheck // what is decoded before an error counts
			t.Skip("it names a directory of the machine")
		}
		for _, verb := range []func(*skel.CmdArgs) error{cni.Add, cni.Check, cni.GC, cni.Status} {
			args := &skel.CmdArgs{ContainerID: "c", Netns: "/proc/none", IfName: "eth0", Args: cniArgs, StdinData: stdin}
			_ = verb(args) // most input is refused
		}
	})
}
