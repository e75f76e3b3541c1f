// SPDX-License-Identifier: Apache-2.0

package vpc_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

// pod makes a namespace behind a link of an instance, whose packets leave by eth1. Addresses' last byte tells links apart.
func pod(t *testing.T, n *vpc.Network, instance, address string) (path string) {
	t.Helper()
	ip := net.ParseIP(address).To4()
	only := &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)}
	gateway := net.IPv4(100, 64, ip[2]&0xe0, 1)
	everywhere := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	path = n.InstancePath("pod-" + address)
	require.NoError(t, netns.Create(path))
	inside, err := vishnetns.GetFromPath(path)
	require.NoError(t, err)
	defer inside.Close()
	require.NoError(t, netns.Do(n.InstancePath(instance), func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = "pod"+address, vpc.MTU
		require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerMTU: vpc.MTU, PeerNamespace: netlink.NsFd(int(inside))}))
		link, err := netlink.LinkByName(attrs.Name)
		require.NoError(t, err)
		eth1, err := netlink.LinkByName("eth1")
		require.NoError(t, err)
		require.NoError(t, netns.Sysctl("ipv4/ip_forward", "1"))
		require.NoError(t, netlink.LinkSetUp(link))
		require.NoError(t, netlink.LinkSetUp(eth1))
		require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: only}))
		// A link's name has dots here, which are slashes to sysctl.
		require.NoError(t, netns.Sysctl("ipv4/conf/all/proxy_arp", "1"))
		require.NoError(t, netns.Sysctl("ipv4/conf/all/rp_filter", "0"))
		require.NoError(t, netlink.AddrReplace(eth1, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(100, 64, ip[2]&0xe0, 5), Mask: net.CIDRMask(32, 32)}}))
		require.NoError(t, netlink.RouteReplace(&netlink.Route{Table: 1001, LinkIndex: eth1.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: gateway, Mask: net.CIDRMask(32, 32)}}))
		require.NoError(t, netlink.RouteReplace(&netlink.Route{Table: 1001, LinkIndex: eth1.Attrs().Index, Gw: gateway, Dst: everywhere}))
		rule := netlink.NewRule()
		rule.Src, rule.Table, rule.Priority = only, 1001, 1536
		return netlink.RuleAdd(rule)
	}))
	require.NoError(t, netns.Do(path, func() error {
		link, err := netlink.LinkByName("eth0")
		require.NoError(t, err)
		require.NoError(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: only}))
		require.NoError(t, netlink.LinkSetUp(link))
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: everywhere})
	}))
	return path
}
