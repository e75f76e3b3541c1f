// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/cni"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// TestDebiansPluginsWorkBehindOursInAChain runs where Debian's plugins have been fetched, as make e2e does.
func TestDebiansPluginsWorkBehindOursInAChain(t *testing.T) {
	debian := filepath.Join(controlplanetest.BinDir(), "packages/usr/lib/cni")
	if _, err := os.Stat(debian); err != nil {
		t.Skip("make node-programs fetches Debian's plugins")
	}
	ours := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(controlplanetest.BinDir(), "cni"), filepath.Join(ours, cni.Type)))
	dir := node(t, "100.64.0.16/28")
	restAtOnce(t, dir)
	args := call(t, dir)
	for _, version := range []string{"0.4.0", "1.0.0"} { // the newest that Debian's plugins know
		t.Run(version, func(t *testing.T) {
			raw, err := json.Marshal(map[string]any{"cniVersion": version, "name": "pods", "plugins": []any{
				map[string]any{"type": cni.Type, "stateDir": dir},
				map[string]any{"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 16_000_000, "egressBurst": 800_000},
				map[string]any{"type": "tuning", "sysctl": map[string]string{"net.ipv4.conf.eth0.arp_notify": "1"}, "mtu": 1400},
			}})
			require.NoError(t, err)
			list, err := libcni.ConfListFromBytes(raw)
			require.NoError(t, err)
			runtime := libcni.NewCNIConfigWithCacheDir([]string{ours, debian}, t.TempDir(), nil)
			sandbox := &libcni.RuntimeConf{ContainerID: args.ContainerID, NetNS: args.Netns, IfName: args.IfName, Args: [][2]string{
				{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", "web"},
			}}

			added, err := runtime.AddNetworkList(t.Context(), list, sandbox)
			require.NoError(t, err)
			result, err := types100.GetResult(added)
			require.NoError(t, err)
			require.Equal(t, "100.64.0.16/32", result.IPs[0].Address.String())
			host, err := netlink.LinkByName(result.Interfaces[0].Name)
			require.NoError(t, err)
			shapers, err := netlink.QdiscList(host)
			require.NoError(t, err)
			require.NotEmpty(t, shapers)
			require.IsType(t, &netlink.Tbf{}, shapers[0], "bandwidth found the host's end in our result")
			require.NoError(t, netns.Do(args.Netns, func() error {
				link, err := netlink.LinkByName("eth0")
				require.NoError(t, err)
				require.Equal(t, 1400, link.Attrs().MTU, "tuning found the pod's end")
				return nil
			}))

			require.NoError(t, runtime.CheckNetworkList(t.Context(), list, sandbox))
			require.NoError(t, runtime.DelNetworkList(t.Context(), list, sandbox))
			require.NoError(t, runtime.DelNetworkList(t.Context(), list, sandbox), "a second DEL does no harm")
			require.Empty(t, podRoutes(t))
		})
	}
}
