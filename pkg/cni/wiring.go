// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	cnins "github.com/containernetworking/cni/pkg/ns"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
)

type addr = netip.Addr

// HostPrefix starts the names of the host's ends of pods' links.
const HostPrefix = "dvt"

// gateway of every pod: link-local, and never asked for by ARP: its neighbour entry is permanent.
var gateway = netip.MustParseAddr("169.254.1.1")

var anywhere = net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}

// HostName of the host's end of an owner's link. It fits the kernel's 15 characters.
func HostName(o lease.Owner) string { return HostPrefix + digest(o)[:12] }

func digest(o lease.Owner) string {
	sum := sha256.Sum256([]byte(o.ContainerID + "/" + o.IfName))
	return hex.EncodeToString(sum[:])
}

// checkNetNS refuses what setup must not touch. The node's own namespace would get a pod's default route.
func checkNetNS(path string) error {
	pod, err := ns.GetNS(path)
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, "the pod has no network namespace", err.Error())
	}
	defer pod.Close() //nolint:errcheck // it was only looked at
	own, checked := cnins.CheckNetNS(path)
	if checked != nil {
		return checked
	}
	if own {
		return types.NewError(types.ErrInvalidNetNS, "CNI_NETNS is the node's own network namespace", path)
	}
	return nil
}

// wiring of one pod: a veth pair, and one route in the table of pods.
type wiring struct {
	netns, ifName, hostName string
	address                 addr
	// primary is the node's own address: what the node, and so the kubelet's probes, come to the pod with.
	primary    addr
	mtu, table int
}

// setup wires the pod. Remains of an attempt that did not come to its end are replaced.
func (w wiring) setup() (*types100.Result, error) {
	here, err := ns.GetCurrentNS()
	if err != nil {
		return nil, err
	}
	defer here.Close()
	there, err := ns.GetNS(w.netns)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	// One socket in each namespace for all requests: a socket stays in the namespace that it was made in.
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("host's netlink socket: %w", err)
	}
	defer host.Close()
	pod, err := netlink.NewHandleAt(netns.NsHandle(there.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("pod's netlink socket: %w", err)
	}
	defer pod.Close()

	podEnd, hostMAC, err := w.createPair(pod, host, int(here.Fd()))
	if err != nil {
		return nil, err
	}
	hostEnd, err := host.LinkByName(w.hostName)
	if err != nil {
		return nil, fmt.Errorf("host's end %s: %w", w.hostName, err)
	}
	if err := host.LinkSetUp(hostEnd); err != nil {
		return nil, fmt.Errorf("host's end %s: %w", w.hostName, err)
	}
	route := w.route()
	route.LinkIndex, route.Src = hostEnd.Attrs().Index, w.primary.AsSlice()
	if err := host.RouteReplace(&route); err != nil {
		return nil, fmt.Errorf("route to %s in table %d: %w", w.address, w.table, err)
	}
	if err := w.configurePod(pod, podEnd, hostMAC); err != nil {
		return nil, err
	}
	return w.result(hostMAC, podEnd.Attrs().HardwareAddr), nil
}

func (w wiring) route() netlink.Route {
	return netlink.Route{Table: w.table, Scope: netlink.SCOPE_LINK, Dst: hostNet(w.address)}
}

// createPair makes the pair in the pod's namespace with the peer in the host's at once: moving a link between namespaces
// takes a global lock of the kernel. Both MACs are set at creation, so that nothing rewrites them.
func (w wiring) createPair(pod, host *netlink.Handle, hostNS int) (podEnd netlink.Link, hostMAC net.HardwareAddr, err error) {
	sum := sha256.Sum256([]byte(w.hostName + w.address.String()))
	hostMAC = localMAC(sum[0:5])
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr, attrs.Flags = w.ifName, w.mtu, localMAC(sum[5:10]), net.FlagUp
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: w.hostName, PeerMTU: uint32(w.mtu), PeerHardwareAddr: hostMAC, PeerNamespace: netlink.NsFd(hostNS), //nolint:gosec // validated: 576 to 9001
	}
	err = pod.LinkAdd(pair)
	if errors.Is(err, unix.EEXIST) { // an attempt that did not come to its end left one, or the other name is taken
		if err := deleteLink(host, w.hostName); err != nil {
			return nil, nil, err
		}
		if err = pod.LinkAdd(pair); errors.Is(err, unix.EEXIST) {
			return nil, nil, &takenNameError{w.ifName}
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("creating %s and %s: %w", w.ifName, w.hostName, err)
	}
	if pair.Index == 0 {
		return nil, nil, fmt.Errorf("pod's end %s: it is gone just after it was created", w.ifName)
	}
	return pair, hostMAC, nil
}

// takenNameError reports a link of the pod's that is not ours: it stays as it is.
type takenNameError struct{ ifName string }

func (e *takenNameError) Error() string {
	return fmt.Sprintf("the pod's network namespace has a link named %s already: let another plugin of the chain take another name", e.ifName)
}

// localMAC is unicast and locally administered.
func localMAC(five []byte) net.HardwareAddr { return append(net.HardwareAddr{0x0a}, five...) }

// configurePod gives the pod's end, which is up, its address and routes.
func (w wiring) configurePod(pod *netlink.Handle, link netlink.Link, hostMAC net.HardwareAddr) error {
	index := link.Attrs().Index
	if err := pod.AddrAdd(link, &netlink.Addr{IPNet: hostNet(w.address)}); err != nil {
		return fmt.Errorf("address %s: %w", w.address, err)
	}
	err := pod.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: gateway.AsSlice(), HardwareAddr: hostMAC})
	if err != nil {
		return fmt.Errorf("neighbour %s: %w", gateway, err)
	}
	for _, route := range []netlink.Route{
		{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: hostNet(gateway)},
		{LinkIndex: index, Gw: gateway.AsSlice(), Dst: &anywhere},
	} {
		if err := pod.RouteReplace(&route); err != nil {
			return fmt.Errorf("pod's route to %s: %w", route.Dst, err)
		}
	}
	return w.awaitCarrier(pod, index)
}

// awaitCarrier waits until the pod's end sends. It came up before its peer, and drops what the pod sends until a worker of the
// kernel has seen the peer: for tenths of a second where many pods start. Since Linux 6.8 the first question has the kernel look
// at once. Before, this waits a little; a pod whose first packets may be lost is better than none.
func (w wiring) awaitCarrier(pod *netlink.Handle, index int) error {
	for range 50 {
		link, err := pod.LinkByIndex(index)
		if err != nil {
			return fmt.Errorf("pod's end %s: %w", w.ifName, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// teardown removes the pair by the host's end and, with it, its routes. It needs no network namespace of the pod, touches
// no link that setup did not make, and it is no error when nothing is there.
func (w wiring) teardown() error {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("host's netlink socket: %w", err)
	}
	defer host.Close()
	return deleteLink(host, w.hostName)
}

// teardownOthers removes the links of all owners but these.
func teardownOthers(valid []lease.Owner) error {
	keep := map[string]bool{}
	for _, o := range valid {
		keep[HostName(o)] = true
	}
	links, err := netlinksafe.LinkList() // again, when links came and went while it read
	if err != nil {
		return fmt.Errorf("links: %w", err)
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("host's netlink socket: %w", err)
	}
	defer host.Close()
	var errs []error
	for _, link := range links {
		if name := link.Attrs().Name; strings.HasPrefix(name, HostPrefix) && !keep[name] {
			errs = append(errs, deleteLink(host, name))
		}
	}
	return errors.Join(errs...)
}

func deleteLink(host *netlink.Handle, name string) error {
	link, err := host.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if err := host.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("deleting %s: %w", name, err)
	}
	return nil
}

// check compares the kernel with what setup made.
func (w wiring) check() error {
	link, err := netlink.LinkByName(w.hostName)
	if err != nil {
		return fmt.Errorf("host's end %s: %w", w.hostName, err)
	}
	route := w.route()
	route.LinkIndex = link.Attrs().Index
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &route, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST|netlink.RT_FILTER_OIF)
	if err != nil {
		return err
	}
	if len(routes) == 0 {
		return fmt.Errorf("table %d has no route to %s by %s", w.table, w.address, w.hostName)
	}
	return ns.WithNetNSPath(w.netns, func(ns.NetNS) error {
		link, err := netlink.LinkByName(w.ifName)
		if err != nil {
			return fmt.Errorf("pod's end %s: %w", w.ifName, err)
		}
		addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			if a.IP.Equal(w.address.AsSlice()) {
				return nil
			}
		}
		return fmt.Errorf("%s has no address %s", w.ifName, w.address)
	})
}

func (w wiring) result(hostMAC, podMAC net.HardwareAddr) *types100.Result {
	pod := 1 // index in Interfaces
	return &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: w.hostName, Mac: hostMAC.String(), Mtu: w.mtu},
			{Name: w.ifName, Mac: podMAC.String(), Mtu: w.mtu, Sandbox: w.netns},
		},
		IPs:    []*types100.IPConfig{{Interface: &pod, Address: *hostNet(w.address), Gateway: gateway.AsSlice()}},
		Routes: []*types.Route{{Dst: anywhere, GW: gateway.AsSlice()}},
	}
}

func hostNet(a addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}
