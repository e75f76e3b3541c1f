// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// watch tells of changes of IPv4 links, addresses, routes and rules and of our nftables table; true when links changed. The
// channel is not closed.
func watch(ctx context.Context) (<-chan bool, error) {
	routing, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("subscribing to links, addresses, routes and rules: %w", err)
	}
	for _, group := range []uint32{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE} {
		err = errors.Join(err, routing.JoinGroup(group))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("subscribing to links, addresses, routes and rules: %w", err), routing.Close())
	}
	filter, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err == nil {
		err = filter.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("subscribing to nftables: %w", err), routing.Close())
	}
	events := make(chan bool)
	for _, source := range []struct {
		conn    *netlink.Conn
		matters func(netlink.Message) bool
	}{{routing, func(netlink.Message) bool { return true }}, {filter, isOwnTable}} {
		context.AfterFunc(ctx, func() { _ = source.conn.Close() })
		go receive(ctx, source.conn, source.matters, events)
	}
	return events, nil
}

// receive until the socket is closed. An overflown one has lost events: that is a reason to look, and the socket goes on.
func receive(ctx context.Context, conn *netlink.Conn, matters func(netlink.Message) bool, events chan<- bool) {
	for ctx.Err() == nil {
		messages, err := conn.Receive()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF) {
			return
		}
		if err != nil {
			time.Sleep(settle) // should the error stay
		}
		matter, links := err != nil, err != nil
		for _, m := range messages {
			matter = matter || matters(m)
			links = links || m.Header.Type == unix.RTM_NEWLINK || m.Header.Type == unix.RTM_DELLINK
		}
		if !matter {
			continue
		}
		select {
		case events <- links:
		case <-ctx.Done():
		}
	}
}

// isOwnTable tells whether a message of nftables is about our table. Those of kube-proxy are many. The first attribute of
// each kind of object is the name of its table.
func isOwnTable(m netlink.Message) bool {
	const nfgenmsg = 4
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < nfgenmsg || m.Header.Type&0xff == unix.NFT_MSG_NEWGEN {
		return false
	}
	attributes, err := netlink.UnmarshalAttributes(m.Data[nfgenmsg:])
	if err != nil {
		return true // look rather than miss it
	}
	for _, attribute := range attributes {
		if attribute.Type == unix.NFTA_TABLE_NAME {
			return string(attribute.Data) == tableName+"\x00"
		}
	}
	return true
}
