// SPDX-License-Identifier: Apache-2.0

package datapath_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

func sysctl(t require.TestingT, name string) string {
	content, err := os.ReadFile(filepath.Join("/proc/sys/net", name))
	require.NoError(t, err)
	return strings.TrimSpace(string(content))
}

// nodeSysctls and what they must be; bad is what other programs and AMIs set.
var nodeSysctls = []struct{ name, bad, good string }{
	{"ipv4/ip_forward", "0", "1"},
	{"ipv4/conf/eth0/rp_filter", "1", "2"},
	{"ipv4/conf/eth0/forwarding", "0", "1"}, // with ip_forward 1: systemd 256 sets it link by link
	{"ipv4/conf/eth1/forwarding", "0", "1"},
}

func TestNoPodIsCutOffByASysctlThatSomebodySet(t *testing.T) {
	state := node(t)
	_, err := datapath.Apply(state)
	require.NoError(t, err)
	for _, s := range nodeSysctls {
		t.Run(s.name, func(t *testing.T) {
			require.Equal(t, s.good, sysctl(t, s.name))
			require.NoError(t, netns.Sysctl(s.name, s.bad))
			compared, err := datapath.Compare(state)
			require.NoError(t, err)
			changes, err := datapath.Apply(state)
			require.NoError(t, err)
			require.Contains(t, changes, datapath.Change{Kind: datapath.KindSysctl, Object: "net/" + s.name + "=" + s.good})
			require.Contains(t, compared, datapath.Change{Kind: datapath.KindSysctl, Object: "net/" + s.name + "=" + s.good})
			require.Equal(t, s.good, sysctl(t, s.name))
			seen, err := seenBy(t, routerNS, outside+":80", podNS)
			require.NoError(t, err)
			require.Equal(t, "10.0.0.10", seen)
			changes, err = datapath.Apply(state)
			require.NoError(t, err)
			require.Empty(t, changes)
		})
	}
}

// The kernel tells nobody of a sysctl: the slow period finds it.
func TestASysctlComesBackWithoutAnEvent(t *testing.T) {
	k := keepEvery(t, node(t), settled)
	for _, s := range nodeSysctls {
		require.NoError(t, netns.Sysctl(s.name, s.bad))
		require.EventuallyWithT(t, func(c *assert.CollectT) { require.Equal(c, s.good, sysctl(c, s.name)) }, deadline, settled)
	}
	require.Contains(t, repaired(k), datapath.KindSysctl)
}

func TestASysctlThatCannotBeWrittenIsReportedAndHoldsNothingUp(t *testing.T) {
	state := node(t)
	require.NoError(t, netns.Sysctl("ipv4/conf/eth0/rp_filter", "1"))
	// As in a container: /proc/sys is read-only, and the node's is mounted at another place. In the tests' own mount namespace.
	nodes := t.TempDir()
	require.NoError(t, unix.Mount("/proc/sys/net", nodes, "", unix.MS_BIND, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(nodes, unix.MNT_DETACH)) })
	require.NoError(t, unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount("/proc/sys", unix.MNT_DETACH)) })
	require.NoError(t, unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	changes, err := datapath.Apply(state)
	require.ErrorIs(t, err, unix.EROFS)
	require.ErrorContains(t, err, "sysctl net/ipv4/conf/eth0/rp_filter=2: the agent needs the node's /proc/sys/net writable, at the path that --sysctl-dir (SYSCTL_DIR) names")
	require.Contains(t, changes, datapath.Change{Kind: datapath.KindRule, Object: "1024: from all fwmark 0x80/0x80 lookup 254"})

	k := &datapath.Keeper{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), SysctlDir: nodes}
	require.NoError(t, k.Apply(state))
	require.Equal(t, "2", sysctl(t, "ipv4/conf/eth0/rp_filter"))
}
