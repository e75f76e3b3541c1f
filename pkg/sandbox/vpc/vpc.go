// SPDX-License-Identifier: Apache-2.0

// Package vpc gives a simulated account networks of real packets.
//
// The implicit router of a VPC is a network namespace. An ENI is a veth pair between it and its instance's namespace; a
// NAT gateway is a namespace with an ENI as well. The router
//
//   - has a route to each address and prefix of an ENI through its pair, and answers ARP for its subnets;
//   - drops what leaves an ENI with an address that the ENI does not hold, and what a route brings to an ENI that is for
//     another address, unless the ENI's source/destination check is off;
//   - looks up the route table of the sender's subnet; a blackhole, and no route, drop in silence;
//   - asks the security groups of the sender's and the receiver's ENI for each new connection. Within an instance nothing
//     is filtered, as packets stay there; nor is the metadata service;
//   - is the internet gateway: it translates between an ENI's primary address and its public one.
//
// A peering is a link between two routers that carries what is from the one VPC for the other. The internet is a namespace with
// a host that tells who asks it.
//
// Not simulated: network ACLs, flow logs, the VPC's DNS and time service, IPv6, gateway and interface endpoints, route
// tables of gateways, limits of bandwidth, of packets and of tracked connections.
package vpc

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

const (
	// MTU of every link in a VPC.
	MTU = 9001
	// MetadataAddress of the instance metadata service.
	MetadataAddress = "169.254.169.254"

	internetName, awsName = "internet", "aws"
)

// Network is the packets of an account's VPCs.
type Network struct {
	dir string // of the namespaces' files

	mu          sync.Mutex
	routers     map[string]*router     // by VPC
	natGateways map[string]*natGateway // by id
	plugged     map[string]port        // by interface
	metadata    func(vpcID string) http.Handler
	hosts       []*http.Server // that tell who asks
}

// port is where an ENI that no instance owns ends.
type port struct{ netns, link string }

// New makes the internet. The calling process's namespace gets a link to it with the address of AWS's endpoint.
func New(dir string) (_ *Network, err error) {
	n := &Network{dir: dir, routers: map[string]*router{}, natGateways: map[string]*natGateway{}, plugged: map[string]port{}}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	if err := netns.Create(n.InternetPath()); err != nil {
		return nil, fmt.Errorf("namespace of the internet: %w", err)
	}
	if err := netns.Bind(n.AWSPath()); err != nil {
		return nil, err
	}
	if err := n.connectAWS(); err != nil {
		return nil, fmt.Errorf("internet: %w", err)
	}
	return n, n.serveEcho()
}

// Close removes the namespaces; links end with them.
func (n *Network) Close() {
	for _, server := range n.hosts {
		server.Close()
	}
	for _, r := range n.routers {
		r.close()
	}
	for _, g := range n.natGateways {
		g.close()
	}
	// Other namespaces take their links along some time after their end; this one lives on.
	_ = netns.Do(n.AWSPath(), func() error { return deleteLink(uplink) })
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

// RouterPath is the file of the namespace of a VPC's router. It exists once Apply has seen the VPC.
func (n *Network) RouterPath(vpcID string) string { return n.path(vpcID) }

// InternetPath is the file of the internet host's namespace.
func (n *Network) InternetPath() string { return n.path(internetName) }

// AWSPath is the file of the namespace that called New: the AWS endpoint's.
func (n *Network) AWSPath() string { return n.path(awsName) }

// Plug makes an ENI that no instance owns end in a namespace, as the ENIs of an EKS control plane do.
func (n *Network) Plug(interfaceID, netnsPath, link string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.plugged[interfaceID] = port{netnsPath, link}
}

// InstanceOf tells which instance in a VPC holds an address.
func InstanceOf(s aws.Snapshot, vpcID string, address netip.Addr) (string, bool) {
	for _, eni := range s.Interfaces {
		if eni.VPCID != vpcID || eni.Attachment == nil || eni.Attachment.InstanceID == "" {
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
