// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// routeProtocol marks the router's routes that Apply owns.
const routeProtocol = 99

// cable is an ENI's veth pair as it should be.
type cable struct {
	eni    aws.Interface
	subnet aws.Subnet
	guest  port
	device int32
}

// Apply makes the network what the snapshot says, by difference.
func (n *Network) Apply(s aws.Snapshot) error {
	if err := n.applyInstances(s); err != nil {
		return err
	}
	cables := n.cables(s)
	if err := n.applyCables(cables); err != nil {
		return err
	}
	if err := netns.Do(n.RouterPath(), func() error { return errors.Join(applyGateways(s), applyRoutes(s, cables)) }); err != nil {
		return fmt.Errorf("router: %w", err)
	}
	return n.applyRules(s, cables)
}

// applyInstances keeps a namespace for each instance that runs, from its boot to its end.
func (n *Network) applyInstances(s aws.Snapshot) error {
	living := map[string]bool{}
	for _, instance := range s.Instances {
		switch instance.State {
		case "running":
			living[instance.ID] = true
			if _, err := os.Stat(n.InstancePath(instance.ID)); err == nil {
				continue
			}
			if err := netns.Create(n.InstancePath(instance.ID)); err != nil {
				return fmt.Errorf("instance %s: %w", instance.ID, err)
			}
		case "pending", "shutting-down":
			living[instance.ID] = true // not there yet, or still there
		}
	}
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "i-") && !living[entry.Name()] {
			if err := netns.Delete(n.path(entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
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
	cables := map[string]cable{}
	for _, eni := range s.Interfaces {
		c := cable{eni: eni, subnet: subnets[eni.SubnetID]}
		if plugged, ok := n.plugged[eni.ID]; ok {
			c.guest = plugged
		} else if a := eni.Attachment; a != nil && a.Status == "attached" && running[a.InstanceID] {
			c.guest, c.device = port{n.InstancePath(a.InstanceID), "eth" + strconv.Itoa(int(a.DeviceIndex))}, a.DeviceIndex
		} else {
			continue
		}
		cables[routerEnd(eni.ID)] = c
	}
	return cables
}

// routerEnd fits an ENI's id into the kernel's 15 characters.
func routerEnd(eniID string) string { return "v" + eniID[max(0, len(eniID)-13):] }

func (n *Network) applyCables(cables map[string]cable) error {
	var missing []string
	err := netns.Do(n.RouterPath(), func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		present := map[string]bool{}
		for _, link := range links {
			name := link.Attrs().Name
			if _, wanted := cables[name]; !wanted && strings.HasPrefix(name, "v") {
				if err := netlink.LinkDel(link); err != nil {
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
		return fmt.Errorf("router: %w", err)
	}
	for _, name := range missing {
		if err := n.plugIn(name, cables[name]); err != nil {
			return fmt.Errorf("plugging in %s: %w", cables[name].eni.ID, err)
		}
	}
	return nil
}

// plugIn makes the pair. A primary ENI is configured as EC2's DHCP would; others arrive as a bare link, down.
func (n *Network) plugIn(name string, c cable) error {
	guest, err := vishnetns.GetFromPath(c.guest.netns)
	if err != nil {
		return err
	}
	defer guest.Close()
	err = netns.Do(n.RouterPath(), func() error {
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
			netns.Sysctl("ipv4/conf/"+name+"/rp_filter", "1"), // no address that the ENI does not hold
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
	return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: c.subnet.Gateway().AsSlice()})
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

// applyRoutes keeps a route to each address and prefix, and none to the rest of the VPC: nothing answers ARP for an
// address that nobody holds, and no packet for it leaves to the internet.
func applyRoutes(s aws.Snapshot, cables map[string]cable) error {
	wanted := map[string]netlink.Route{}
	add := func(r netlink.Route) {
		r.Protocol, r.Table = routeProtocol, unix.RT_TABLE_MAIN
		wanted[routeKey(r)] = r
	}
	for name, c := range cables {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		add(netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(host(c.eni.Primary)), Scope: netlink.SCOPE_LINK})
		for _, p := range addressesOf(c.eni)[1:] {
			add(netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p), Gw: c.eni.Primary.AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
		}
	}
	for _, vpc := range s.VPCs {
		for _, cidr := range vpc.CIDRs {
			add(netlink.Route{Dst: ipNet(cidr), Type: unix.RTN_UNREACHABLE})
		}
	}
	present, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return err
	}
	for _, route := range present {
		if _, ok := wanted[routeKey(route)]; ok {
			delete(wanted, routeKey(route))
			continue
		}
		if err := netlink.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("removing the route to %s: %w", route.Dst, err)
		}
	}
	for _, route := range wanted {
		if err := netlink.RouteReplace(&route); err != nil {
			return fmt.Errorf("adding the route to %s: %w", route.Dst, err)
		}
	}
	return nil
}

func routeKey(r netlink.Route) string {
	link := r.LinkIndex
	if r.Type == unix.RTN_UNREACHABLE {
		link = 0
	}
	return fmt.Sprintf("%s %d", r.Dst, link)
}
