// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/netip"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func (r *request) assignAddresses(in *ec2.AssignPrivateIpAddressesInput) (*ec2.AssignPrivateIpAddressesOutput, error) {
	n, err := r.interfaces.one(kindInterface, "networkInterfaceId", in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	var specs []ec2types.PrivateIpAddressSpecification
	for _, text := range in.PrivateIpAddresses {
		specs = append(specs, ec2types.PrivateIpAddressSpecification{PrivateIpAddress: awssdk.String(text)})
	}
	_, w, err := addressParameters{
		addresses: specs, count: in.SecondaryPrivateIpAddressCount, prefixes: in.Ipv4Prefixes, prefixCount: in.Ipv4PrefixCount,
	}.parse()
	if err != nil {
		return nil, err
	}
	if ways(w) == 0 {
		return nil, clientError("InvalidParameter",
			"One of privateIpAddressSet or privateIpAddressCount or ipv4PrefixSet or ipv4PrefixCount must be specified.")
	}
	added := len(w.addresses) + w.count + len(w.prefixes) + w.prefixCount
	if a := n.attachment; a != nil && a.instance != nil {
		g := a.instance.geometry()
		if n.slots()+added > g.addresses {
			return nil, clientError("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
		}
		if len(w.prefixes)+w.prefixCount > 0 && !g.prefixes {
			return nil, g.errPrefixes()
		}
	}
	moved, err := r.movable(n, w.addresses, awssdk.ToBool(in.AllowReassignment))
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	// An address that moves changes its interface, not the subnet's space.
	stay := w
	stay.addresses = slices.DeleteFunc(slices.Clone(w.addresses), func(addr netip.Addr) bool { return moved[addr] != nil })
	g, err := n.subnet.space.assign(stay, r.random)
	if err != nil {
		return nil, err
	}
	for addr, from := range moved {
		from.secondaries = slices.DeleteFunc(from.secondaries, func(other netip.Addr) bool { return other == addr })
		g.addresses = append(g.addresses, addr)
		r.showLater(from)
	}
	n.secondaries = append(n.secondaries, g.addresses...)
	n.prefixes = append(n.prefixes, g.prefixes...)
	r.showLater(n)
	out := &ec2.AssignPrivateIpAddressesOutput{NetworkInterfaceId: &n.id}
	for _, addr := range g.addresses {
		out.AssignedPrivateIpAddresses = append(out.AssignedPrivateIpAddresses, ec2types.AssignedPrivateIpAddress{PrivateIpAddress: awssdk.String(addr.String())})
	}
	for _, p := range g.prefixes {
		out.AssignedIpv4Prefixes = append(out.AssignedIpv4Prefixes, ec2types.Ipv4PrefixSpecification{Ipv4Prefix: awssdk.String(p.String())})
	}
	return out, nil
}

// movable returns the interfaces of the subnet that hold some of the addresses as secondary ones, when these may move.
func (r *request) movable(to *networkInterface, addresses []netip.Addr, allowed bool) (map[netip.Addr]*networkInterface, error) {
	moved := map[netip.Addr]*networkInterface{}
	for _, addr := range addresses {
		for _, n := range r.interfaces.all() {
			if n.subnet != to.subnet || !slices.Contains(n.secondaries, addr) {
				continue
			}
			if !allowed {
				return nil, clientError("InvalidParameterValue", "[%s] assigned, but move is not allowed.", addr)
			}
			moved[addr] = n
		}
	}
	return moved, nil
}

// showLater lets IMDS follow what EC2 has changed.
func (r *request) showLater(n *networkInterface) { r.publishAfter(r.latency.Metadata, n) }

func (r *request) unassignAddresses(in *ec2.UnassignPrivateIpAddressesInput) (*ec2.UnassignPrivateIpAddressesOutput, error) {
	n, err := r.interfaces.one(kindInterface, "networkInterfaceId", in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	if len(in.PrivateIpAddresses)+len(in.Ipv4Prefixes) == 0 {
		return nil, clientError("InvalidParameter", "One of privateIpAddressSet or ipv4PrefixSet must be specified.")
	}
	missing := clientError("InvalidParameterValue", "Some of the specified addresses are not assigned to interface %s", n.id)
	var back given
	for _, text := range in.PrivateIpAddresses {
		addr, err := netip.ParseAddr(strings.TrimSuffix(text, "/32"))
		if err != nil || !slices.Contains(n.secondaries, addr) {
			return nil, missing
		}
		back.addresses = append(back.addresses, addr)
	}
	for _, text := range in.Ipv4Prefixes {
		p, err := netip.ParsePrefix(text)
		if err != nil || !slices.Contains(n.prefixes, p) {
			return nil, missing
		}
		back.prefixes = append(back.prefixes, p)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	n.secondaries = slices.DeleteFunc(n.secondaries, func(addr netip.Addr) bool { return slices.Contains(back.addresses, addr) })
	n.prefixes = slices.DeleteFunc(n.prefixes, func(p netip.Prefix) bool { return slices.Contains(back.prefixes, p) })
	n.subnet.space.giveBack(back)
	r.showLater(n)
	return &ec2.UnassignPrivateIpAddressesOutput{}, nil
}
