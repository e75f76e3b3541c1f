// SPDX-License-Identifier: Apache-2.0

package benchnode

import (
	"fmt"
	"net"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// floor is what the kernel must be told for a pod at least, by a program that runs already and remembers nothing.
type floor struct {
	netns, hostEnd string
	address        *net.IPNet
}

func newFloor(netnsPath string, pod int) floor {
	return floor{netnsPath, fmt.Sprint("floor", pod), netlink.NewIPNet(net.IPv4(100, 64, 1, byte(pod)))} //nolint:gosec // tens of pods
}

var (
	router = netlink.NewIPNet(net.IPv4(169, 254, 1, 1))
	mac    = net.HardwareAddr{0x0a, 1, 2, 3, 4, 5}
)

func (f floor) wire() error {
	host, err := ns.GetCurrentNS()
	if err != nil {
		return err
	}
	defer host.Close()
	err = ns.WithNetNSPath(f.netns, func(ns.NetNS) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = "eth0", 9001
		err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: f.hostEnd, PeerMTU: 9001, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(host.Fd())),
		})
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: f.address}); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		index := link.Attrs().Index
		if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: router.IP, HardwareAddr: mac}); err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: router}); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: router.IP, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}})
	})
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(f.hostEnd)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Table: pool.PodTable, Scope: netlink.SCOPE_LINK, Dst: f.address})
}

func (f floor) unwire() error {
	link, err := netlink.LinkByName(f.hostEnd)
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}
