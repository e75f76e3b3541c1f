// SPDX-License-Identifier: Apache-2.0

package datapath_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
)

func TestThePodBeforeLeavesNoConnectionsToTheNextOneAtItsAddress(t *testing.T) {
	_, err := datapath.Apply(node(t))
	require.NoError(t, err)
	require.NoError(t, netlink.ConntrackTableFlush(netlink.ConntrackTable))
	with := func(address string) (n int) {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
		require.NoError(t, err)
		for _, f := range flows {
			if f.Forward.SrcIP.String() == address || f.Forward.DstIP.String() == address {
				n++
			}
		}
		return n
	}
	for _, c := range []struct{ listener, address, dialer string }{
		{routerNS, outside + ":80", podNS},  // begun by the pod, translated
		{podNS, "100.64.0.20:80", routerNS}, // answered by it
		{routerNS, outside + ":81", ""},     // the node's own
		{routerNS, "100.64.0.1:80", podNS},  // in the VPC
	} {
		_, err := seenBy(t, c.listener, c.address, c.dialer)
		require.NoError(t, err)
	}
	own := with("10.0.0.10")
	require.Positive(t, own)
	entries := with("100.64.0.20")
	require.Equal(t, 3, entries)

	var releases datapath.Releases
	released := []netip.Addr{netip.MustParseAddr("100.64.0.20")}
	forgotten, err := releases.Forget(released)
	require.NoError(t, err)
	require.Equal(t, entries, forgotten)
	require.Zero(t, with("100.64.0.20"))
	require.Equal(t, own, with("10.0.0.10"), "those of others stay")

	_, err = seenBy(t, routerNS, outside+":82", podNS)
	require.NoError(t, err)
	forgotten, err = releases.Forget(released)
	require.NoError(t, err)
	require.Zero(t, forgotten, "once for each rest")
	_, err = releases.Forget(nil) // leased again
	require.NoError(t, err)
	forgotten, err = releases.Forget(released)
	require.NoError(t, err)
	require.Equal(t, 1, forgotten)
}
