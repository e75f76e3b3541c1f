// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// A joint is a link between two routers, without addresses: each knows the other as neighbor, by a MAC that is known before.
var (
	neighbor  = netip.MustParseAddr("169.254.0.1")
	jointMACs = [2]net.HardwareAddr{{0x02, 0xd0, 0x7e, 0x7a, 0x11, 0x01}, {0x02, 0xd0, 0x7e, 0x7a, 0x11, 0x02}}
)

// linkEnd is a link in a namespace.
type linkEnd struct{ netns, name string }

// join makes the link.
func join(a, b linkEnd, mtu int) error {
	peer, err := vishnetns.GetFromPath(b.netns)
	if err != nil {
		return err
	}
	defer peer.Close()
	err = netns.Do(a.netns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr = a.name, mtu, jointMACs[0]
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: b.name, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(int(peer)), PeerHardwareAddr: jointMACs[1],
		})
	})
	if err != nil {
		return err
	}
	return errors.Join(
		netns.Do(a.netns, func() error { return meet(a.name, jointMACs[1]) }),
		netns.Do(b.netns, func() error { return meet(b.name, jointMACs[0]) }),
	)
}

func meet(name string, mac net.HardwareAddr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return errors.Join(
		netlink.LinkSetUp(link),
		netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: neighbor.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}),
	)
}

// through a joint, or an ENI, to a destination.
func through(link string, gateway netip.Addr, destination netip.Prefix) (netlink.Route, error) {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return netlink.Route{}, err
	}
	return netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(destination), Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}, nil
}

func deleteLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}
