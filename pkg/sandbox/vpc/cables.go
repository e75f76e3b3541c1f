// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// cable is an ENI's veth pair as it should be.
type cable struct {
	eni    aws.Interface
	subnet aws.Subnet
	guest  port
	device int32
}

// cables by the name of the router's end.
func (n *Network) cables(s aws.Snapshot) map[string]cable {
	subnets := map[string]aws.Subnet{}
	for _, subnet := range s.Subnets {
		subnets[subnet.ID] = subnet
	}
	running := map[string]bool{}
	for _, instance := range s.Instances {
		running[instance.ID] = instance.State == "running"
	}
	translators := map[string]port{}
	for _, gateway := range s.NATGateways {
		if n.natGateways[gateway.ID] != nil {
			translators[gateway.InterfaceID] = port{n.path(gateway.ID), natLink}
		}
	}
	cables := map[string]cable{}
	for _, eni := range s.Interfaces {
		c := cable{eni: eni, subnet: subnets[eni.SubnetID]}
		if plugged, ok := n.plugged[eni.ID]; ok {
			c.guest = plugged
		} else if translator, ok := translators[eni.ID]; ok {
			c.guest = translator
		} else if a := eni.Attachment; a != nil && a.Status == "attached" && running[a.InstanceID] {
			c.guest, c.device = port{n.InstancePath(a.InstanceID), "eth" + strconv.Itoa(int(a.DeviceIndex))}, a.DeviceIndex
		} else {
			continue
		}
		cables[RouterEnd(eni.ID)] = c
	}
	return cables
}

// RouterEnd is the link at the VPC's router that carries an ENI's packets.
func RouterEnd(eniID string) string { return shortName("v", eniID) }

func (r *router) applyCables(cables map[string]cable) error {
	var missing []string
	err := netns.Do(r.path, func() error {
		links, err := netlinksafe.LinkList()
		if err != nil {
			return err
		}
		present := map[string]bool{}
		for _, link := range links {
			name := link.Attrs().Name
			if _, wanted := cables[name]; !wanted && strings.HasPrefix(name, "v") {
				// It goes by itself with the namespace of an instance that ended.
				if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
					return fmt.Errorf("unplugging %s: %w", name, err)
				}
			}
			present[name] = true
		}
		for name := range cables {
			if !present[name] {
				missing = append(missing, name)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range missing {
		if err := r.plugIn(name, cables[name]); err != nil {
			return fmt.Errorf("plugging in %s: %w", cables[name].eni.ID, err)
		}
	}
	return nil
}

// plugIn makes the pair. A primary ENI is configured as EC2's DHCP would; others arrive as a bare link, down.
func (r *router) plugIn(name string, c cable) error {
	guest, err := vishnetns.GetFromPath(c.guest.netns)
	if err != nil {
		return err
	}
	defer guest.Close()
	err = netns.Do(r.path, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, MTU
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: c.guest.link, PeerMTU: MTU, PeerNamespace: netlink.NsFd(int(guest)), PeerHardwareAddr: c.eni.MAC}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return errors.Join(
			netns.Sysctl("ipv4/conf/"+name+"/proxy_arp", "1"),
			netns.Sysctl("ipv4/neigh/"+name+"/proxy_delay", "0"),
			netlink.LinkSetUp(link),
			// EC2 asks no guest who holds an address: what is for an ENI is delivered to its MAC.
			netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: c.eni.Primary.AsSlice(), HardwareAddr: c.eni.MAC, State: netlink.NUD_PERMANENT}),
		)
	})
	if err != nil || c.device != 0 {
		return err
	}
	return netns.Do(c.guest.netns, func() error { return configureGuest(c) })
}

func configureGuest(c cable) error {
	link, err := netlink.LinkByName(c.guest.link)
	if err != nil {
		return err
	}
	if err := addAddress(c.guest.link, netip.PrefixFrom(c.eni.Primary, c.subnet.CIDR.Bits()).String()); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if !strings.HasPrefix(c.guest.link, "eth") {
		return addVPCRoute(link, c) // the control plane's own way into the VPC; its default route is its own
	}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(everywhere), Gw: c.subnet.Gateway().AsSlice()})
}

// addVPCRoute sends what is in private and carrier-grade space through the ENI.
func addVPCRoute(link netlink.Link, c cable) error {
	for _, cidr := range []string{"10.0.0.0/8", "100.64.0.0/10"} {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix(cidr)), Gw: c.subnet.Gateway().AsSlice()}
		if err := netlink.RouteReplace(route); err != nil {
			return err
		}
	}
	return nil
}

// applyGateways gives the router the second address of each subnet.
func applyGateways(s aws.Snapshot) error {
	for _, subnet := range s.Subnets {
		if err := addAddress("lo", host(subnet.Gateway()).String()); err != nil {
			return err
		}
	}
	return nil
}
