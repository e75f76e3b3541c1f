// SPDX-License-Identifier: Apache-2.0

package datapath_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

func TestPodLinksAreListedWithTheirAddressesAndDeletedByWhatTheyWere(t *testing.T) {
	make := func(name string) netlink.Link {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "p" + name}))
		link, err := netlink.LinkByName(name)
		require.NoError(t, err)
		require.NoError(t, netlink.LinkSetUp(link))
		t.Cleanup(func() {
			if link, err := netlink.LinkByName(name); err == nil {
				require.NoError(t, netlink.LinkDel(link))
			}
		})
		return link
	}
	routed := make("dvttest1")
	make("dvttest2")
	make("other1")
	address := netip.MustParseAddr("100.64.9.9")
	require.NoError(t, netlink.RouteAdd(&netlink.Route{
		Table: pool.PodTable, LinkIndex: routed.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: netlink.NewIPNet(address.AsSlice()),
	}))

	links, err := datapath.PodLinks("dvttest", pool.PodTable)
	require.NoError(t, err)
	require.Len(t, links, 2)
	require.Equal(t, datapath.PodLink{Name: "dvttest1", Index: routed.Attrs().Index, Address: address}, links[0])
	require.Equal(t, "dvttest2", links[1].Name)
	require.False(t, links[1].Address.IsValid())

	require.NoError(t, links[0].Delete())
	make("dvttest1") // another pod's by now
	require.NoError(t, links[0].Delete(), "it is gone")
	_, err = netlink.LinkByName("dvttest1")
	require.NoError(t, err)
}
