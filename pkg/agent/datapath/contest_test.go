// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

func TestRepairsSlowDownWhereAnotherProgramUndoesThem(t *testing.T) {
	var c contest
	now := time.Now()
	rule, other := Change{Kind: KindRule, Object: "1024"}, Change{Kind: KindRoute, Object: "1001"}
	for i := range contestedAfter {
		pause, found := c.repaired(now.Add(time.Duration(i)*time.Second), []Change{rule})
		require.Zero(t, pause)
		require.Empty(t, found)
	}
	now = now.Add(contestedAfter * time.Second)
	pause, found := c.repaired(now, []Change{other, rule})
	require.Equal(t, firstPause, pause)
	require.Equal(t, []Change{rule}, found)

	pause, found = c.repaired(now, []Change{other})
	require.Zero(t, pause, "what nobody contests is not slowed down")
	require.Empty(t, found)
	var pauses []time.Duration
	for range 7 {
		pause, found = c.repaired(now, []Change{rule})
		require.Empty(t, found, "it is said once")
		pauses = append(pauses, pause)
		now = now.Add(pause)
	}
	require.Equal(t, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, lastPause, lastPause, lastPause}, pauses)

	now = now.Add(calm + time.Second)
	pause, found = c.repaired(now, []Change{other})
	require.Zero(t, pause)
	require.Empty(t, found)
	require.Zero(t, c.pause, "it begins anew")
	require.Len(t, c.objects, 1)
}

func TestNothingIsRepairedInAPause(t *testing.T) {
	foreign := netlink.NewRule()
	foreign.Priority, foreign.Table, foreign.Family = priorityENI, 77, netlink.FAMILY_V4
	present := func() int {
		rules, err := netlink.RuleListFiltered(netlink.FAMILY_V4, foreign, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PRIORITY)
		require.NoError(t, err)
		return len(rules)
	}
	require.NoError(t, netlink.RuleAdd(foreign))
	state := State{PrimaryMAC: net.HardwareAddr{2, 0, 0, 0, 0, 0x99}}
	k := &Keeper{Log: slog.New(slog.DiscardHandler), state: &State{PrimaryMAC: state.PrimaryMAC}, quiet: time.Now().Add(time.Hour)}
	require.Positive(t, k.repair())
	require.NoError(t, k.Apply(state))
	require.Equal(t, 1, present())

	state.PodTable = 512
	require.ErrorIs(t, k.Apply(state), ErrLinkMissing, "what is wanted newly does not wait")
	require.Zero(t, present())

	require.NoError(t, netlink.RuleAdd(foreign))
	k.quiet = time.Now()
	require.Zero(t, k.repair())
	require.Zero(t, present())
}

func TestRepairsFarApartAreNoContest(t *testing.T) {
	var c contest
	now := time.Now()
	for range 10 * contestedAfter {
		pause, found := c.repaired(now, []Change{{Kind: KindLink, Object: "eth1 up"}})
		require.Zero(t, pause)
		require.Empty(t, found)
		now = now.Add(contestWindow / contestedAfter)
	}
}
