// SPDX-License-Identifier: Apache-2.0

package datapath_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// deadline of waits. It asserts nothing: an hour's period shows that events do the work.
const deadline = 2 * time.Minute

// settled is a period, and a wait between looks, for what the kernel has no events for.
const settled = 20 * time.Millisecond

// repairs of each Keeper.
var repairs = struct {
	sync.Mutex
	kinds map[*datapath.Keeper][]datapath.Kind
}{kinds: map[*datapath.Keeper][]datapath.Kind{}}

func repaired(k *datapath.Keeper) []datapath.Kind {
	repairs.Lock()
	defer repairs.Unlock()
	return slices.Clone(repairs.kinds[k])
}

// keep runs a Keeper that has applied the state and looks by itself only once an hour.
func keep(t *testing.T, state datapath.State) *datapath.Keeper {
	t.Helper()
	return keepEvery(t, state, time.Hour)
}

func keepEvery(t *testing.T, state datapath.State, period time.Duration) *datapath.Keeper {
	t.Helper()
	k := &datapath.Keeper{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Period: period}
	run(t, k)
	require.NoError(t, k.Apply(state))
	return k
}

func run(t *testing.T, k *datapath.Keeper) {
	t.Helper()
	k.Repaired = func(changes []datapath.Change) {
		repairs.Lock()
		defer repairs.Unlock()
		for _, c := range changes {
			repairs.kinds[k] = append(repairs.kinds[k], c.Kind)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, k.Run(ctx)) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// kernel is what the kernel holds of our things, a line each, sorted.
func kernel(t require.TestingT) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, name := range []string{"eth1", "dvtpod"} {
		link, err := netlink.LinkByName(name)
		require.NoError(t, err)
		add("link %s up %t mtu %d", name, link.Attrs().Flags&net.FlagUp != 0, link.Attrs().MTU)
		addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
		require.NoError(t, err)
		for _, address := range addresses {
			add("address %s %s", name, address.IPNet)
		}
	}
	for _, table := range []int{pool.PodTable, pool.ENITable(1), unix.RT_TABLE_MAIN} {
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		require.NoError(t, err)
		for _, route := range routes {
			add("table %d: %s", table, route)
		}
	}
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	require.NoError(t, err)
	for _, rule := range rules {
		add("%s fwmark %#x", rule, rule.Mark)
	}
	conn, err := nftables.New()
	require.NoError(t, err)
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	require.NoError(t, err)
	for _, chain := range chains {
		rules, err := conn.GetRules(chain.Table, chain)
		require.NoError(t, err)
		for i, rule := range rules {
			add("chain %s rule %d %s", chain.Name, i, rule.UserData)
		}
	}
	for _, name := range []string{"pods", "local"} {
		set, err := conn.GetSetByName(dovetail, name)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		require.NoError(t, err)
		elements, err := conn.GetSetElements(set)
		require.NoError(t, err)
		for _, e := range elements {
			add("set %s %v %t", name, e.Key, e.IntervalEnd)
		}
	}
	slices.Sort(lines)
	return lines
}

var dovetail = &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "dovetail"}

func linkNamed(t *testing.T, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	require.NoError(t, err)
	return link
}

func flushTable(t *testing.T, table int) {
	t.Helper()
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	require.NoError(t, err)
	require.NotEmpty(t, routes)
	for _, route := range slices.Backward(routes) {
		require.NoError(t, netlink.RouteDel(&route))
	}
}

func deleteRules(t *testing.T, priorities ...int) {
	t.Helper()
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	require.NoError(t, err)
	for _, rule := range rules {
		if slices.Contains(priorities, rule.Priority) {
			require.NoError(t, netlink.RuleDel(&rule))
		}
	}
}

func nft(t *testing.T, change func(*nftables.Conn)) {
	t.Helper()
	conn, err := nftables.New()
	require.NoError(t, err)
	change(conn)
	require.NoError(t, conn.Flush())
}

// sabotage is what other programs and people do to a node's network.
var sabotage = []struct {
	what string
	kind datapath.Kind
	do   func(*testing.T)
}{
	{"the rule of pods deleted", datapath.KindRule, func(t *testing.T) { deleteRules(t, 512) }},
	{"the rule of marks deleted", datapath.KindRule, func(t *testing.T) { deleteRules(t, 1024) }},
	{"a rule of an ENI deleted", datapath.KindRule, func(t *testing.T) { deleteRules(t, 1536) }},
	{"all rules deleted, as networkd does", datapath.KindRule, func(t *testing.T) { deleteRules(t, 512, 1024, 1536) }},
	{"a foreign rule at a priority of ours", datapath.KindRule, func(t *testing.T) {
		rule := netlink.NewRule()
		rule.Priority, rule.Table, rule.Src, rule.Family = 1536, 77, cidr("100.64.0.16/28"), netlink.FAMILY_V4
		require.NoError(t, netlink.RuleAdd(rule))
	}},
	{"the default route of an ENI's table replaced", datapath.KindRoute, func(t *testing.T) {
		require.NoError(t, netlink.RouteReplace(&netlink.Route{Table: 1001, LinkIndex: linkNamed(t, "eth0").Attrs().Index, Gw: net.IPv4(10, 0, 0, 1), Dst: cidr("0.0.0.0/0")}))
	}},
	{"an ENI's table flushed", datapath.KindRoute, func(t *testing.T) { flushTable(t, 1001) }},
	{"the table of pods flushed", datapath.KindRoute, func(t *testing.T) { flushTable(t, 512) }},
	{"the link of an ENI down", datapath.KindLink, func(t *testing.T) { require.NoError(t, netlink.LinkSetDown(linkNamed(t, "eth1"))) }},
	{"the link of a pod down", datapath.KindLink, func(t *testing.T) { require.NoError(t, netlink.LinkSetDown(linkNamed(t, "dvtpod"))) }},
	{"the MTU of an ENI changed", datapath.KindLink, func(t *testing.T) { require.NoError(t, netlink.LinkSetMTU(linkNamed(t, "eth1"), 1500)) }},
	{"the address of an ENI removed", datapath.KindAddress, func(t *testing.T) {
		require.NoError(t, netlink.AddrDel(linkNamed(t, "eth1"), &netlink.Addr{IPNet: cidr("100.64.0.5/19")}))
	}},
	{"a route of the pods' subnet in main, as DHCP adds", datapath.KindRoute, func(t *testing.T) {
		require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: linkNamed(t, "eth1").Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: cidr("100.64.0.0/19")}))
	}},
	{"the nftables table deleted", datapath.KindNftables, func(t *testing.T) { nft(t, func(c *nftables.Conn) { c.DelTable(dovetail) }) }},
	{"the nftables ruleset flushed", datapath.KindNftables, func(t *testing.T) { nft(t, func(c *nftables.Conn) { c.FlushRuleset() }) }},
	{"an nftables chain flushed", datapath.KindNftables, func(t *testing.T) {
		nft(t, func(c *nftables.Conn) { c.FlushChain(&nftables.Chain{Table: dovetail, Name: "snat"}) })
	}},
	{"an nftables set flushed", datapath.KindNftables, func(t *testing.T) {
		nft(t, func(c *nftables.Conn) { c.FlushSet(&nftables.Set{Table: dovetail, Name: "pods"}) })
	}},
	{"an element of an nftables set added", datapath.KindNftables, func(t *testing.T) {
		nft(t, func(c *nftables.Conn) {
			set := &nftables.Set{Table: dovetail, Name: "local", KeyType: nftables.TypeIPAddr, Interval: true}
			require.NoError(t, c.SetAddElements(set, []nftables.SetElement{{Key: []byte{203, 0, 113, 0}}, {Key: []byte{203, 0, 114, 0}, IntervalEnd: true}}))
		})
	}},
}

func TestWhatSomebodyTakesAwayComesBackAfterTheEvent(t *testing.T) {
	for _, s := range sabotage {
		t.Run(s.what, func(t *testing.T) {
			k := keep(t, node(t))
			wanted := kernel(t)
			require.Empty(t, repaired(k))
			s.do(t)
			require.EventuallyWithT(t, func(c *assert.CollectT) { require.Equal(c, wanted, kernel(c)) }, deadline, 20*time.Millisecond)
			for destination, source := range map[string]string{"100.64.0.1:80": "100.64.0.20", outside + ":80": "10.0.0.10"} {
				seen, err := seenBy(t, routerNS, destination, podNS)
				require.NoError(t, err)
				require.Equal(t, source, seen)
			}
			// The keeper tells after it has repaired.
			require.EventuallyWithT(t, func(c *assert.CollectT) { require.Contains(c, repaired(k), s.kind) }, deadline, 20*time.Millisecond)
		})
	}
}

func TestAComparisonNamesWhatDiffersAndChangesNothing(t *testing.T) {
	for _, s := range sabotage {
		t.Run(s.what, func(t *testing.T) {
			state := node(t)
			_, err := datapath.Apply(state)
			require.NoError(t, err)
			whole := kernel(t)
			changes, err := datapath.Compare(state)
			require.NoError(t, err)
			require.Empty(t, changes)
			s.do(t)
			broken := kernel(t)
			changes, err = datapath.Compare(state)
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(changes, func(c datapath.Change) bool { return c.Kind == s.kind }), "%v", changes)
			require.Equal(t, broken, kernel(t))
			_, err = datapath.Apply(state)
			require.NoError(t, err)
			require.Equal(t, whole, kernel(t))
		})
	}
}

func TestWhatIsWantedNewlyIsNoRepair(t *testing.T) {
	state := node(t)
	k := keep(t, state)
	state.ENIs = slices.Clone(state.ENIs)
	state.ENIs[0].Prefixes = append(slices.Clone(state.ENIs[0].Prefixes), netip.MustParsePrefix("100.64.0.32/28"))
	require.NoError(t, k.Apply(state))
	require.Empty(t, repaired(k))
	deleteRules(t, 1024)
	require.NoError(t, k.Apply(state), "nothing new is wanted")
	require.Equal(t, []datapath.Kind{datapath.KindRule}, repaired(k))
}

func TestWhatThePluginIsStillMakingIsNoRepair(t *testing.T) {
	state := node(t)
	state.Pods = slices.Clone(state.Pods)
	state.Pods[0].Starting = true
	k := keep(t, state)
	wanted := kernel(t)
	require.NoError(t, netlink.LinkSetDown(linkNamed(t, "dvtpod"))) // takes its route, too: as it is when the plugin has made no more than the link
	require.EventuallyWithT(t, func(c *assert.CollectT) { require.Equal(c, wanted, kernel(c)) }, deadline, 20*time.Millisecond)
	deleteRules(t, 1024) // somebody else's doing, after it
	require.EventuallyWithT(t, func(c *assert.CollectT) { require.Equal(c, []datapath.Kind{datapath.KindRule}, repaired(k)) }, deadline, 20*time.Millisecond)
}

// systemd-networkd with ManageForeignRoutingPolicyRules does so at each of its own changes.
func TestAProgramThatUndoesEveryRepairIsNamedOnceAndNotFoughtAtFullSpeed(t *testing.T) {
	var contested atomic.Int32
	k := &datapath.Keeper{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Period: settled}
	k.Contested = func(c datapath.Change) {
		assert.Equal(t, datapath.KindRule, c.Kind)
		contested.Add(1)
	}
	state := node(t)
	run(t, k)
	require.NoError(t, k.Apply(state))
	wanted := kernel(t)
	require.Eventually(t, func() bool {
		deleteRules(t, 1024)
		return contested.Load() > 0
	}, deadline, settled)
	deleteRules(t, 1024)
	require.EventuallyWithT(t, func(c *assert.CollectT) { require.Equal(c, wanted, kernel(c)) }, deadline, settled)
	require.EqualValues(t, 1, contested.Load())
}

func TestPresentListsRulesAndRoutes(t *testing.T) {
	state := node(t)
	_, err := datapath.Apply(state)
	require.NoError(t, err)
	rules, routes, pods, err := datapath.Present(state)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{
		"512: from all fwmark 0x0/0x0 lookup 512", "1024: from all fwmark 0x80/0x80 lookup 254",
		"1536: from 100.64.0.5/32 fwmark 0x0/0x0 lookup 1001", "1536: from 100.64.0.16/28 fwmark 0x0/0x0 lookup 1001",
	}, rules)
	require.ElementsMatch(t, []string{"1001: 100.64.0.1/32 dev eth1", "1001: 0.0.0.0/0 via 100.64.0.1 dev eth1"}, routes)
	require.Equal(t, []string{"512: 100.64.0.20/32 dev dvtpod"}, pods)
}

func TestTheKeeperServesOtherENIsWhenOneIsGone(t *testing.T) {
	state := node(t)
	state.ENIs = append([]datapath.ENI{{
		MAC: mac("02:00:00:00:00:99"), Table: pool.ENITable(2), Address: netip.MustParseAddr("100.64.0.9"), Subnet: state.ENIs[0].Subnet,
	}}, state.ENIs...)
	_, err := datapath.Apply(state)
	require.ErrorIs(t, err, datapath.ErrLinkMissing)
	seen, err := seenBy(t, routerNS, outside+":80", podNS)
	require.NoError(t, err)
	require.Equal(t, "10.0.0.10", seen)
}

// Others change the same tables of the kernel all the time: dumps are interrupted, and nothing must be taken for missing.
func TestNothingIsRepairedWhileOthersChangeTheKernelsTables(t *testing.T) {
	state := node(t)
	_, err := datapath.Apply(state)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	churn := func(round func(i int) error) {
		others.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if !assert.NoError(t, round(i)) {
					return
				}
			}
		})
	}
	eth0 := linkNamed(t, "eth0").Attrs().Index
	churn(func(i int) error {
		route := &netlink.Route{Table: 77, LinkIndex: eth0, Scope: netlink.SCOPE_LINK, Dst: cidr(fmt.Sprintf("172.16.%d.0/24", i%256))}
		if err := netlink.RouteAdd(route); err != nil {
			return err
		}
		return netlink.RouteDel(route)
	})
	churn(func(i int) error {
		rule := netlink.NewRule()
		rule.Priority, rule.Table, rule.Family = 2000+i%1000, 77, netlink.FAMILY_V4
		if err := netlink.RuleAdd(rule); err != nil {
			return err
		}
		return netlink.RuleDel(rule)
	})
	churn(func(i int) error {
		link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("other%d", i%100)}, PeerName: fmt.Sprintf("rehto%d", i%100)}
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	churn(func(int) error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		other := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "other"}
		conn.AddTable(other)
		conn.DelTable(other)
		return conn.Flush()
	})
	for range 50 {
		changes, err := datapath.Apply(state)
		require.NoError(t, err)
		require.Empty(t, changes)
	}
}

func TestRulesDoNotGrowWithPods(t *testing.T) {
	state := node(t)
	_, err := datapath.Apply(state)
	require.NoError(t, err)
	count := func() int {
		rules, err := netlink.RuleList(netlink.FAMILY_V4)
		require.NoError(t, err)
		return len(rules)
	}
	before := count()
	for i := range 12 {
		address := netip.AddrFrom4([4]byte{100, 64, 0, byte(17 + i)})
		state.Pods = append(state.Pods, datapath.Pod{Address: address, Link: "dvtpod"})
	}
	changes, err := datapath.Apply(state)
	require.NoError(t, err)
	require.NotEmpty(t, changes)
	require.Equal(t, before, count())
}
