// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// PodLink is the host's end of a pod's link.
type PodLink struct {
	Name  string
	Index int
	// Address that the table of pods routes to it; not valid where there is no such route.
	Address netip.Addr
}

// PodLinks lists the links whose names start so, with what a table routes to them.
func PodLinks(prefix string, table int) ([]PodLink, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("links: %w", err)
	}
	routes, err := routesOf(table)
	if err != nil {
		return nil, err
	}
	routed := map[int]netip.Addr{}
	for _, route := range routes {
		if route.Dst != nil {
			routed[route.LinkIndex], _ = netip.AddrFromSlice(route.Dst.IP.To4())
		}
	}
	var found []PodLink
	for _, link := range links {
		if a := link.Attrs(); strings.HasPrefix(a.Name, prefix) {
			found = append(found, PodLink{Name: a.Name, Index: a.Index, Address: routed[a.Index]})
		}
	}
	return found, nil
}

// Delete takes the link and its routes away. It is no error when it has gone.
func (l PodLink) Delete() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Index = l.Index // the name may be another's by now
	if err := netlink.LinkDel(&netlink.Device{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("deleting link %s: %w", l.Name, err)
	}
	return nil
}
