// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Of linux/netfilter/nfnetlink_conntrack.h.
const (
	conntrackGet    = netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | 1)
	conntrackDelete = netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | 2)

	ctaTupleOrig, ctaTupleReply, ctaID, ctaZone, ctaFilter = 1, 2, 12, 18, 25
	ctaTupleIP, ctaIPv4Source                              = 1, 1
	// What a dump compares: the source of a tuple.
	ctaFilterOrig, ctaFilterReply, filterSource = 1, 2, 1

	attributeType = ^(netlink.Nested | netlink.NetByteOrder) // of a type with its flags
)

// conntrackHeader is a struct nfgenmsg.
var conntrackHeader = []byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}

// ForgetConnections deletes what the kernel remembers of connections that an address began or answered, and returns their number. An
// entry of the pod before would meet the packets of the next pod at the address: some live for longer than a released address
// rests (SYN_SENT: 120 s; amazon-vpc-cni-k8s #3634).
//
// The kernel compares (Linux 5.8): no table of a million entries is copied here.
func ForgetConnections(address netip.Addr) (forgotten int, err error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return 0, fmt.Errorf("connection tracking: %w", err)
	}
	defer func() { _ = conn.Close() }()
	for _, tuple := range []uint16{ctaTupleOrig, ctaTupleReply} {
		entries, err := connectionsFrom(conn, tuple, address)
		if err != nil {
			return forgotten, fmt.Errorf("listing the connections of %s: %w", address, err)
		}
		for _, entry := range entries {
			_, err := conn.Execute(netlink.Message{Header: netlink.Header{Type: conntrackDelete, Flags: netlink.Request | netlink.Acknowledge}, Data: entry})
			switch {
			case err == nil:
				forgotten++
			case !errors.Is(err, unix.ENOENT): // or it ended by itself
				return forgotten, fmt.Errorf("forgetting a connection of %s: %w", address, err)
			}
		}
	}
	return forgotten, nil
}

// connectionsFrom lists entries whose tuple has the address as its source, as requests that name them.
func connectionsFrom(conn *netlink.Conn, tuple uint16, address netip.Addr) (entries [][]byte, err error) {
	compared := uint16(ctaFilterOrig)
	if tuple == ctaTupleReply {
		compared = ctaFilterReply
	}
	source := address.As4()
	request := netlink.NewAttributeEncoder()
	request.Nested(tuple, func(t *netlink.AttributeEncoder) error {
		t.Nested(ctaTupleIP, func(ip *netlink.AttributeEncoder) error {
			ip.Bytes(ctaIPv4Source, source[:])
			return nil
		})
		return nil
	})
	request.Nested(ctaFilter, func(f *netlink.AttributeEncoder) error {
		f.Uint32(compared, filterSource)
		return nil
	})
	attributes, err := request.Encode()
	if err != nil {
		return nil, err
	}
	found, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: conntrackGet, Flags: netlink.Request | netlink.Dump}, Data: slices.Concat(conntrackHeader, attributes),
	})
	if err != nil {
		return nil, err
	}
	for _, m := range found {
		if len(m.Data) < len(conntrackHeader) {
			continue
		}
		all, err := netlink.UnmarshalAttributes(m.Data[len(conntrackHeader):])
		if err != nil {
			return nil, err
		}
		if !sourceIs(all, tuple, address) { // a kernel that does not know the filter
			continue
		}
		name, err := netlink.MarshalAttributes(slices.DeleteFunc(all, func(a netlink.Attribute) bool {
			kind := a.Type & attributeType
			return kind != ctaTupleOrig && kind != ctaID && kind != ctaZone
		}))
		if err != nil {
			return nil, err
		}
		entries = append(entries, slices.Concat(conntrackHeader, name))
	}
	return entries, nil
}

func sourceIs(entry []netlink.Attribute, tuple uint16, address netip.Addr) bool {
	for _, path := range []uint16{tuple, ctaTupleIP, ctaIPv4Source} {
		i := slices.IndexFunc(entry, func(a netlink.Attribute) bool { return a.Type&attributeType == path })
		if i < 0 {
			return false
		}
		if path == ctaIPv4Source && len(entry[i].Data) == 4 {
			return netip.AddrFrom4([4]byte(entry[i].Data)) == address
		}
		var err error
		if entry, err = netlink.UnmarshalAttributes(entry[i].Data); err != nil {
			return false
		}
	}
	return false
}

// Releases remembers which released addresses are done with.
type Releases struct{ done map[netip.Addr]bool }

// Forget the connections of addresses that rest, each once for each rest.
func (r *Releases) Forget(resting []netip.Addr) (forgotten int, err error) {
	done := map[netip.Addr]bool{}
	var errs []error
	for _, address := range resting {
		if !r.done[address] {
			n, err := ForgetConnections(address)
			if forgotten += n; err != nil {
				errs = append(errs, err)
				continue
			}
		}
		done[address] = true
	}
	r.done = done
	return forgotten, errors.Join(errs...)
}
