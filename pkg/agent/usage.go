// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"slices"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
)

// usage of the node's addresses.
type usage struct {
	leases  []lease.Lease
	cooling []netip.Addr
	// complete: both lists agree with what the lease store counts.
	complete bool
}

func (u usage) leased() []netip.Addr {
	var addresses []netip.Addr
	for _, l := range u.leases {
		addresses = append(addresses, l.Address)
	}
	return addresses
}

// free counts the addresses of prefixes that can be leased now.
func (u usage) free(prefixes []netip.Prefix) (n int) {
	used := map[netip.Addr]bool{}
	for _, a := range append(u.leased(), u.cooling...) {
		used[a] = true
	}
	for _, p := range prefixes {
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			if !used[a] {
				n++
			}
		}
	}
	return n
}

// coolingIn counts the addresses of prefixes that cool down and are not leased as well: those come back by themselves.
func (u usage) coolingIn(prefixes []netip.Prefix) (n int) {
	leased := u.leased()
	for _, a := range u.cooling {
		if !slices.Contains(leased, a) && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
			n++
		}
	}
	return n
}

// usage reads who holds which address, and what cools down.
func (a *Agent) usage(cooldown time.Duration, now time.Time) (usage, error) {
	var u usage
	var err error
	if u.leases, err = a.leases.List(); err != nil {
		return u, err
	}
	// After the leases: an address that is released in between counts twice, not never.
	if u.cooling, err = a.leases.Cooling(cooldown, now); err != nil {
		return u, err
	}
	_, cooling, err := a.leases.Usage(cooldown, now)
	u.complete = cooling <= len(u.cooling)
	return u, err
}
