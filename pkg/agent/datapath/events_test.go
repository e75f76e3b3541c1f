// SPDX-License-Identifier: Apache-2.0

package datapath_test

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	mdlayher "github.com/mdlayher/netlink"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// aws-node deletes and adds each pod's rule when it starts: its packets leave by the wrong ENI in between.
func TestNoRuleIsTakenAwayOnlyToBeAddedAgain(t *testing.T) {
	state := node(t)
	_, err := datapath.Apply(state)
	require.NoError(t, err)
	conn, err := mdlayher.Dial(unix.NETLINK_ROUTE, nil)
	require.NoError(t, err)
	defer conn.Close()
	for _, group := range []uint32{unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV4_ROUTE} {
		require.NoError(t, conn.JoinGroup(group))
	}
	_, err = datapath.Apply(state) // as the next agent does
	require.NoError(t, err)
	state.ENIs[0].Prefixes = append(state.ENIs[0].Prefixes, netip.MustParsePrefix("100.64.0.32/28"))
	_, err = datapath.Apply(state)
	require.NoError(t, err)

	last := netlink.NewRule() // ends the list of events
	last.Priority, last.Table, last.Family = 2000, 77, netlink.FAMILY_V4
	require.NoError(t, netlink.RuleAdd(last))
	require.NoError(t, netlink.RuleDel(last))
	var kinds []mdlayher.HeaderType
	for !slices.Contains(kinds, unix.RTM_DELRULE) {
		messages, err := conn.Receive()
		require.NoError(t, err)
		for _, m := range messages {
			kinds = append(kinds, m.Header.Type)
		}
	}
	require.Equal(t, []mdlayher.HeaderType{unix.RTM_NEWRULE, unix.RTM_NEWRULE, unix.RTM_DELRULE}, kinds, "the new prefix's, and the two of this test")
}

// aws-node takes rules that it could not write for written, and never tries again (v1.23.1, updateCIDRsRulesOnChange).
func TestWhatCouldNotBeProgrammedIsNeverTakenForDone(t *testing.T) {
	state := node(t)
	late := mac("02:00:00:00:00:03")
	state.ENIs = append(state.ENIs, datapath.ENI{
		MAC: late, Table: pool.ENITable(2), Address: netip.MustParseAddr("100.64.0.6"), Subnet: state.ENIs[0].Subnet,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("100.64.0.48/28")},
	})
	routes := func(t require.TestingT) int {
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: pool.ENITable(2)}, netlink.RT_FILTER_TABLE)
		require.NoError(t, err)
		return len(routes)
	}
	k := &datapath.Keeper{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Period: time.Hour}
	run(t, k)
	require.ErrorIs(t, k.Apply(state), datapath.ErrLinkMissing)
	require.Zero(t, routes(t))

	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "eth2", late
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "reth2"}))
	t.Cleanup(func() { require.NoError(t, netlink.LinkDel(linkNamed(t, "eth2"))) })
	require.EventuallyWithT(t, func(c *assert.CollectT) { require.Equal(c, 2, routes(c)) }, deadline, settled)
	changes, err := datapath.Compare(state)
	require.NoError(t, err)
	require.Empty(t, changes)
}
