// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// applyHolders forgets the connections of addresses that went to another ENI, or to none: EC2 tracks connections for each ENI,
// and who gets an address later inherits none.
func (r *router) applyHolders(cables map[string]cable) error {
	holders := map[netip.Prefix]string{}
	for name, c := range cables {
		for _, p := range addressesOf(c.eni) {
			holders[p] = name
		}
	}
	var filters []netlink.CustomConntrackFilter
	for p, name := range r.holders {
		if holders[p] == name {
			continue
		}
		for _, side := range []netlink.ConntrackFilterType{netlink.ConntrackOrigSrcIP, netlink.ConntrackOrigDstIP, netlink.ConntrackReplySrcIP} {
			filter := &netlink.ConntrackFilter{}
			if err := filter.AddIPNet(side, ipNet(p)); err != nil {
				return err
			}
			filters = append(filters, filter)
		}
	}
	r.holders = holders
	if len(filters) == 0 {
		return nil
	}
	handle, err := netlink.NewHandleAt(r.netns, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer handle.Close()
	_, err = handle.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filters...)
	if err != nil && !errors.Is(err, unix.ENOENT) { // one that ended by itself
		return fmt.Errorf("forgetting connections: %w", err)
	}
	return nil
}
