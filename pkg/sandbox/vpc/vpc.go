// SPDX-License-Identifier: Apache-2.0

// Package vpc gives a simulated account a network of real packets.
//
// The implicit router of the VPC is a network namespace. An ENI is a veth pair between it and its instance's namespace; the
// router has a route to each address and prefix of the ENI through that pair, answers ARP for the subnet, and drops what
// leaves an ENI with an address that the ENI does not hold (strict reverse path filtering). Between subnets it forwards;
// to the internet only what a route table sends to a NAT gateway, with the gateway's public address. Security groups are
// rules in the router, on what leaves the sender's ENI and on what enters the receiver's; within an instance nothing is
// filtered, as packets stay there, nor is the metadata service.
//
// Not simulated here: internet gateways for instances with public
// addresses, routes to an ENI and interfaces without a source/destination check, the hop limit of the metadata service,
// peering, the VPC's DNS.
package vpc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

const (
	// MTU of every link in a VPC.
	MTU = 9001
	// MetadataAddress of the instance metadata service.
	MetadataAddress = "169.254.169.254"

	routerName, internetName, awsName = "vpc", "internet", "aws"
	uplink                            = "inet" // the router's end towards the internet
)

// Addresses on the internet side, from the ranges for documentation.
var (
	// AWSEndpoint is where the AWS APIs are served.
	AWSEndpoint = netip.MustParseAddr("203.0.113.10")
	// InternetHost answers HTTP requests with the address that it sees.
	InternetHost = netip.MustParseAddr("203.0.113.80")
	// publicRange holds elastic addresses.
	publicRange = netip.MustParsePrefix("198.51.100.0/24")

	linkRouterInternet = [2]string{"192.0.2.1/30", "192.0.2.2/30"}
	linkInternetAWS    = [2]string{"192.0.2.5/30", "192.0.2.6/30"}
)

// Network is a VPC's packets.
type Network struct {
	dir      string // of the namespaces' files
	router   vishnetns.NsHandle
	firewall firewall // of the router
	plugged  map[string]port
	echo     *http.Server
}

// port is where an ENI that no instance owns ends.
type port struct{ netns, link string }

// New makes the router and the internet. The calling process's namespace gets a link to the internet with the address of
// AWS's endpoint.
func New(dir string) (_ *Network, err error) {
	n := &Network{dir: dir, plugged: map[string]port{}}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	for _, name := range []string{routerName, internetName} {
		if err := netns.Create(n.path(name)); err != nil {
			return nil, fmt.Errorf("namespace %s: %w", name, err)
		}
	}
	if err := netns.Bind(n.path(awsName)); err != nil {
		return nil, err
	}
	if n.router, err = vishnetns.GetFromPath(n.path(routerName)); err != nil {
		return nil, err
	}
	n.firewall.netns = int(n.router)
	if err := n.connectInternet(); err != nil {
		return nil, fmt.Errorf("internet: %w", err)
	}
	if err := netns.Do(n.path(routerName), n.setupRouter); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	return n, n.serveEcho()
}

// Close removes the namespaces; links end with them.
func (n *Network) Close() {
	if n.echo != nil {
		n.echo.Close()
	}
	if n.router.IsOpen() {
		n.router.Close()
	}
	// Other namespaces take their links along some time after their end; this one lives on.
	_ = netns.Do(n.AWSPath(), func() error {
		link, err := netlink.LinkByName(uplink)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		_ = netns.Delete(filepath.Join(n.dir, entry.Name())) // nothing can be done about one that stays
	}
}

func (n *Network) path(name string) string { return filepath.Join(n.dir, name) }

// InstancePath is the file of an instance's namespace. It exists once Apply has seen the instance running.
func (n *Network) InstancePath(instanceID string) string { return n.path(instanceID) }

// RouterPath and InternetPath are the files of these namespaces.
func (n *Network) RouterPath() string { return n.path(routerName) }

// InternetPath is the file of the internet host's namespace.
func (n *Network) InternetPath() string { return n.path(internetName) }

// AWSPath is the file of the namespace that called New: the AWS endpoint's.
func (n *Network) AWSPath() string { return n.path(awsName) }

// ListenMetadata opens the address of the instance metadata service. A request's remote address tells the instance.
func (n *Network) ListenMetadata() (net.Listener, error) {
	return netns.Listen(n.RouterPath(), MetadataAddress+":80")
}

// Plug makes an ENI that no instance owns end in a namespace, as the ENIs of an EKS control plane do.
func (n *Network) Plug(interfaceID, netnsPath, link string) {
	n.plugged[interfaceID] = port{netnsPath, link}
}

func (n *Network) connectInternet() error {
	if err := n.link(linkEnd{n.RouterPath(), uplink, linkRouterInternet[0]}, linkEnd{n.InternetPath(), "vpc", linkRouterInternet[1]}); err != nil {
		return err
	}
	if err := n.link(linkEnd{n.InternetPath(), "aws", linkInternetAWS[0]}, linkEnd{n.AWSPath(), uplink, linkInternetAWS[1]}); err != nil {
		return err
	}
	via := func(cidr string) net.IP { return netip.MustParsePrefix(cidr).Addr().AsSlice() }
	err := netns.Do(n.InternetPath(), func() error {
		return errors.Join(
			netns.Sysctl("ipv4/ip_forward", "1"),
			addAddress("lo", InternetHost.String()+"/32"),
			netlink.RouteAdd(&netlink.Route{Dst: ipNet(publicRange), Gw: via(linkRouterInternet[0])}),
			netlink.RouteAdd(&netlink.Route{Dst: ipNet(host(AWSEndpoint)), Gw: via(linkInternetAWS[1])}),
		)
	})
	if err != nil {
		return err
	}
	return netns.Do(n.AWSPath(), func() error {
		return errors.Join(
			addAddress("lo", AWSEndpoint.String()+"/32"),
			netlink.RouteAdd(&netlink.Route{Dst: ipNet(publicRange), Gw: via(linkInternetAWS[0])}),
			netlink.RouteAdd(&netlink.Route{Dst: ipNet(host(InternetHost)), Gw: via(linkInternetAWS[0])}),
		)
	})
}

func (n *Network) setupRouter() error {
	gateway := netip.MustParsePrefix(linkRouterInternet[1]).Addr()
	return errors.Join(
		netns.Sysctl("ipv4/ip_forward", "1"),
		netns.Sysctl("ipv4/conf/all/rp_filter", "0"), // the ENIs' own setting counts
		netns.Sysctl("ipv4/conf/default/rp_filter", "0"),
		addAddress("lo", MetadataAddress+"/32"),
		netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: gateway.AsSlice()}),
	)
}

type linkEnd struct{ netns, name, address string }

// link joins two namespaces with a veth pair.
func (n *Network) link(a, b linkEnd) error {
	peer, err := vishnetns.GetFromPath(b.netns)
	if err != nil {
		return err
	}
	defer peer.Close()
	err = netns.Do(a.netns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = a.name, MTU
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: b.name, PeerMTU: MTU, PeerNamespace: netlink.NsFd(int(peer))}); err != nil {
			return fmt.Errorf("link %s: %w", a.name, err)
		}
		return up(a)
	})
	if err != nil {
		return err
	}
	return netns.Do(b.netns, func() error { return up(b) })
}

func up(end linkEnd) error {
	link, err := netlink.LinkByName(end.name)
	if err != nil {
		return err
	}
	if err := addAddress(end.name, end.address); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func addAddress(link, cidr string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	address, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(l, address); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("address %s on %s: %w", cidr, link, err)
	}
	return nil
}

func (n *Network) serveEcho() error {
	listener, err := netns.Listen(n.InternetPath(), InternetHost.String()+":80")
	if err != nil {
		return fmt.Errorf("internet host: %w", err)
	}
	n.echo = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remote, _, _ := net.SplitHostPort(r.RemoteAddr)
		_, _ = io.WriteString(w, remote) // a client that is gone needs no answer
	})}
	go func() { _ = n.echo.Serve(listener) }() // ends with Close
	return nil
}

// Translation is one connection through a NAT gateway.
type Translation struct {
	Source      netip.Addr `json:"source"`      // in the VPC, before translation
	SourcePort  uint16     `json:"sourcePort"`  //
	Destination netip.Addr `json:"destination"` // on the internet
	Public      netip.Addr `json:"public"`      // what the destination sees
	PublicPort  uint16     `json:"publicPort"`
}

// Translations lists what NAT gateways translate now or did lately, from the router's connection tracking.
func (n *Network) Translations() ([]Translation, error) {
	handle, err := netlink.NewHandleAt(n.router, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	flows, err := handle.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		return nil, fmt.Errorf("reading connection tracking: %w", err)
	}
	var out []Translation
	for _, flow := range flows {
		public, ok := netip.AddrFromSlice(flow.Reverse.DstIP.To4())
		if !ok || !publicRange.Contains(public) {
			continue
		}
		source, _ := netip.AddrFromSlice(flow.Forward.SrcIP.To4())
		destination, _ := netip.AddrFromSlice(flow.Forward.DstIP.To4())
		out = append(out, Translation{
			Source: source, SourcePort: flow.Forward.SrcPort, Destination: destination, Public: public, PublicPort: flow.Reverse.DstPort,
		})
	}
	return out, nil
}

// InstanceOf tells which instance holds an address.
func InstanceOf(s aws.Snapshot, address netip.Addr) (string, bool) {
	for _, eni := range s.Interfaces {
		if eni.Attachment == nil || eni.Attachment.InstanceID == "" {
			continue
		}
		for _, p := range addressesOf(eni) {
			if p.Contains(address) {
				return eni.Attachment.InstanceID, true
			}
		}
	}
	return "", false
}

// addressesOf an ENI: its addresses as /32, then its prefixes.
func addressesOf(eni aws.Interface) []netip.Prefix {
	addresses := []netip.Prefix{host(eni.Primary)}
	for _, secondary := range eni.Secondaries {
		addresses = append(addresses, host(secondary))
	}
	return append(addresses, eni.Prefixes...)
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}
