// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// checkEC2 compares what EC2 has for the instance with what plugins may use.
func (i *instance) checkEC2(t require.TestingT) {
	doc := i.pool(t)
	published := map[string][]string{}
	for _, e := range doc.ENIs {
		published[e.ID] = []string{}
		for _, p := range e.Prefixes {
			published[e.ID] = append(published[e.ID], p.String())
		}
		slices.Sort(published[e.ID])
	}
	there := map[string][]string{}
	for _, n := range i.world.enis(i) {
		require.NotNil(t, n.Attachment, "%s is attached to nothing", n.ID)
		require.Equal(t, "attached", n.Attachment.Status)
		require.True(t, n.Attachment.DeleteOnTermination, "%s would stay when the instance ends", n.ID)
		there[n.ID] = []string{}
		for _, p := range n.Prefixes {
			there[n.ID] = append(there[n.ID], p.String())
		}
		slices.Sort(there[n.ID])
	}
	require.Equal(t, there, published, "EC2's prefixes and the published ones, by ENI")
	require.NotEmpty(t, published)
}

// checkKernel compares leases, links, routes, rules and nftables with the pods that live and the published pool: nothing is
// missing, and nothing is more.
func (i *instance) checkKernel(t require.TestingT, living []*pod) {
	doc := i.pool(t)
	wanted := []string{
		"rule 512 from all to table 512", "rule 1024 from all to table 254",
	}
	elements := []string{}
	for _, e := range doc.ENIs {
		gateway := e.SubnetCIDR.Masked().Addr().Next()
		wanted = append(wanted,
			describe("rule 1536 from %s/32 to table %d", e.PrimaryAddress, e.RouteTable),
			describe("table %d: %s/32", e.RouteTable, gateway), describe("table %d: 0.0.0.0/0 via %s", e.RouteTable, gateway))
		for _, p := range e.Prefixes {
			wanted = append(wanted, describe("rule 1536 from %s to table %d", p, e.RouteTable))
			elements = append(elements, p.String())
		}
	}
	for _, p := range living {
		name := cni.HostName(owner(p))
		wanted = append(wanted, "link "+name, describe("table 512: %s/32 by %s", p.address, name), describe("lease %s of %s", p.address, p.id))
	}
	wanted = append(wanted, "nftables dovetail")
	found, covered := i.kernel(t)
	for _, l := range i.leases(t) {
		found = append(found, describe("lease %s of %s", l.Address, l.ContainerID))
	}
	slices.Sort(wanted)
	slices.Sort(found)
	require.Equal(t, wanted, found)
	require.Equal(t, total(doc.Prefixes()), covered, "addresses in nftables' set of pods: %v", elements)
	for _, p := range living {
		require.NoError(t, netns.Do(p.netns, func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
			if assert.Len(t, addresses, 1) {
				assert.Equal(t, p.address.String(), addresses[0].IP.String())
			}
			return err
		}))
	}
}

func total(prefixes []netip.Prefix) int { return pool.Addresses(prefixes) }

// kernel lists what is ours, a line each, and how many addresses nftables' set of pods covers.
func (i *instance) kernel(t require.TestingT) (lines []string, covered int) {
	add := func(format string, args ...any) { lines = append(lines, describe(format, args...)) }
	require.NoError(t, i.in(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		names := map[int]string{}
		for _, link := range links {
			names[link.Attrs().Index] = link.Attrs().Name
			if strings.HasPrefix(link.Attrs().Name, cni.HostPrefix) {
				add("link %s", link.Attrs().Name)
			}
		}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		for _, r := range routes {
			switch {
			case r.Table == pool.PodTable:
				add("table 512: %s by %s", r.Dst, names[r.LinkIndex])
			case r.Table >= 1000 && r.Gw != nil:
				add("table %d: %s via %s", r.Table, cmp.Or(r.Dst, &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}), r.Gw)
			case r.Table >= 1000:
				add("table %d: %s", r.Table, r.Dst)
			}
		}
		rules, err := netlink.RuleList(netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, r := range rules {
			from := "all"
			if r.Src != nil {
				from = r.Src.String()
			}
			if r.Priority != 0 && r.Priority < 32766 { // the kernel's own
				add("rule %d from %s to table %d", r.Priority, from, r.Table)
			}
		}
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTables()
		if err != nil {
			return err
		}
		for _, table := range tables {
			add("nftables %s", table.Name)
		}
		if len(tables) == 0 {
			return nil
		}
		elements, err := conn.GetSetElements(&nftables.Set{Table: tables[0], Name: "pods", KeyType: nftables.TypeIPAddr, Interval: true})
		for _, e := range elements {
			at := int(e.Key[0])<<24 | int(e.Key[1])<<16 | int(e.Key[2])<<8 | int(e.Key[3])
			if !e.IntervalEnd {
				at = -at
			}
			if at != 0 {
				covered += at
			}
		}
		return err
	}))
	return lines, covered
}
