// SPDX-License-Identifier: Apache-2.0

package datapath_test

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

const (
	routerNS, podNS = "/run/netns/router", "/run/netns/pod"
	outside         = "203.0.113.80" // an address that is in no VPC
)

func cidr(s string) *net.IPNet {
	ip, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	n.IP = ip
	return n
}

func mac(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// node makes the calling namespace a node with a primary ENI eth0 and a bare pod ENI eth1, both ending in a router that holds
// the subnets' gateways and an address of the internet, and one pod at 100.64.0.20.
func node(t *testing.T) datapath.State {
	t.Helper()
	require.NoError(t, netns.Create(routerNS))
	require.NoError(t, netns.Create(podNS))
	t.Cleanup(func() {
		for _, name := range []string{"eth0", "eth1", "dvtpod"} {
			if link, err := netlink.LinkByName(name); err == nil {
				require.NoError(t, netlink.LinkDel(link))
			}
		}
		rules, err := netlink.RuleList(netlink.FAMILY_V4)
		require.NoError(t, err)
		for _, rule := range rules {
			if rule.Priority == 512 || rule.Priority == 1024 || rule.Priority == 1536 {
				require.NoError(t, netlink.RuleDel(&rule))
			}
		}
		require.NoError(t, netns.Delete(routerNS))
		require.NoError(t, netns.Delete(podNS))
	})
	router, err := vishnetns.GetFromPath(routerNS)
	require.NoError(t, err)
	defer router.Close()
	for name, hw := range map[string]string{"eth0": "02:00:00:00:00:01", "eth1": "02:00:00:00:00:02"} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = name, mac(hw)
		require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "r" + name, PeerNamespace: netlink.NsFd(int(router))}))
	}
	eth0, err := netlink.LinkByName("eth0")
	require.NoError(t, err)
	require.NoError(t, netlink.AddrAdd(eth0, &netlink.Addr{IPNet: cidr("10.0.0.10/24")}))
	require.NoError(t, netlink.LinkSetUp(eth0))
	require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.IPv4(10, 0, 0, 1), Dst: cidr("0.0.0.0/0")}))
	require.NoError(t, netns.Do(routerNS, func() error {
		for name, address := range map[string]string{"reth0": "10.0.0.1/24", "reth1": "100.64.0.1/19"} {
			link, err := netlink.LinkByName(name)
			require.NoError(t, err)
			require.NoError(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: cidr(address)}))
			require.NoError(t, netns.Sysctl("ipv4/conf/"+name+"/rp_filter", "1"))
			require.NoError(t, netlink.LinkSetUp(link))
		}
		reth1, err := netlink.LinkByName("reth1")
		require.NoError(t, err)
		// As EC2 delivers: to the ENI, without asking who holds the pod's address.
		require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: reth1.Attrs().Index, Gw: net.IPv4(100, 64, 0, 5), Dst: cidr("100.64.0.16/28")}))
		lo, err := netlink.LinkByName("lo")
		require.NoError(t, err)
		require.NoError(t, netlink.LinkSetUp(lo))
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: cidr(outside + "/32")})
	}))
	wirePod(t, podNS, "dvtpod", "100.64.0.20")
	return datapath.State{
		PrimaryMAC: mac("02:00:00:00:00:01"), PrimaryAddress: netip.MustParseAddr("10.0.0.10"), MTU: 9001, PodTable: pool.PodTable,
		ENIs: []datapath.ENI{{
			MAC: mac("02:00:00:00:00:02"), Table: pool.ENITable(1), Address: netip.MustParseAddr("100.64.0.5"),
			Subnet: netip.MustParsePrefix("100.64.0.0/19"), Prefixes: []netip.Prefix{netip.MustParsePrefix("100.64.0.16/28")},
		}},
		Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/21"), netip.MustParsePrefix("100.64.0.0/17")}, SNAT: true, RandomPorts: true,
		Pods: []datapath.Pod{{Address: netip.MustParseAddr("100.64.0.20"), Link: "dvtpod"}},
	}
}

func wirePod(t *testing.T, namespace, hostLink, address string) {
	t.Helper()
	pod, err := vishnetns.GetFromPath(namespace)
	require.NoError(t, err)
	defer pod.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = hostLink
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(pod))}))
	host, err := netlink.LinkByName(hostLink)
	require.NoError(t, err)
	require.NoError(t, netlink.LinkSetUp(host))
	require.NoError(t, netlink.RouteAdd(&netlink.Route{Table: pool.PodTable, LinkIndex: host.Attrs().Index, Scope: netlink.SCOPE_LINK, Src: net.IPv4(10, 0, 0, 10), Dst: cidr(address + "/32")}))
	require.NoError(t, netns.Do(namespace, func() error {
		link, err := netlink.LinkByName("eth0")
		require.NoError(t, err)
		require.NoError(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: cidr(address + "/32")}))
		require.NoError(t, netlink.LinkSetUp(link))
		require.NoError(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.IPv4(169, 254, 1, 1), HardwareAddr: host.Attrs().HardwareAddr}))
		require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: cidr("169.254.1.1/32")}))
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(169, 254, 1, 1), Dst: cidr("0.0.0.0/0")})
	}))
}

// seenBy connects from one namespace to a listener in another and returns the address that the listener saw.
func seenBy(t *testing.T, listenerNS, address, dialerNS string) (string, error) {
	t.Helper()
	return seenFrom(t, listenerNS, address, dialerNS, "")
}

// seenFrom connects from a certain address of the dialer's.
func seenFrom(t *testing.T, listenerNS, address, dialerNS, source string) (string, error) {
	t.Helper()
	return seenAt(t, listenerNS, address, dialerNS, source, address)
}

// seenAt connects to another address than the one that is listened at.
func seenAt(t require.TestingT, listenerNS, address, dialerNS, source, dialled string) (string, error) {
	listen := func() (l net.Listener, err error) { return net.Listen("tcp", address) }
	var listener net.Listener
	var err error
	if listenerNS == "" {
		listener, err = listen()
	} else {
		listener, err = netns.Listen(listenerNS, address)
	}
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, conn.RemoteAddr().String())
			conn.Close()
		}
	}()
	var seen []byte
	dial := func() error {
		dialer := net.Dialer{Timeout: 2 * time.Second}
		if source != "" {
			dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
		}
		conn, err := dialer.Dial("tcp", dialled)
		if err != nil {
			return err
		}
		defer conn.Close()
		seen, err = io.ReadAll(conn)
		return err
	}
	if dialerNS == "" {
		err = dial()
	} else {
		err = netns.Do(dialerNS, dial)
	}
	host, _, _ := strings.Cut(string(seen), ":")
	return host, err
}

func TestPodsKeepTheirAddressInTheVPCAndHaveTheNodesOutsideOfIt(t *testing.T) {
	_, err := datapath.Apply(node(t))
	require.NoError(t, err)

	seen, err := seenBy(t, routerNS, "100.64.0.1:80", podNS)
	require.NoError(t, err)
	require.Equal(t, "100.64.0.20", seen, "pod to the VPC leaves by its ENI, as itself")

	seen, err = seenBy(t, routerNS, outside+":80", podNS)
	require.NoError(t, err)
	require.Equal(t, "10.0.0.10", seen, "pod to the internet leaves by the primary ENI, as the node")

	seen, err = seenBy(t, "", "10.0.0.10:80", podNS)
	require.NoError(t, err)
	require.Equal(t, "100.64.0.20", seen, "pod to its node")

	seen, err = seenBy(t, podNS, "100.64.0.20:80", "")
	require.NoError(t, err)
	require.Equal(t, "10.0.0.10", seen, "node to its pod")

	seen, err = seenBy(t, podNS, "100.64.0.20:80", routerNS)
	require.NoError(t, err)
	require.Equal(t, "100.64.0.1", seen, "VPC to pod")
}

func TestAnswersToConnectionsFromOutsideOfTheVPCLeaveByThePodsENI(t *testing.T) {
	_, err := datapath.Apply(node(t))
	require.NoError(t, err)
	dropAtRouter(t, "reth0", "100.64.0.20")
	seen, err := seenFrom(t, podNS, "100.64.0.20:80", routerNS, outside) // as from a peered network
	require.NoError(t, err)
	require.Equal(t, outside, seen)
}

func TestPolicyNoneLeavesPodsTheirAddressAndENI(t *testing.T) {
	state := node(t)
	state.SNAT = false
	_, err := datapath.Apply(state)
	require.NoError(t, err)
	dropAtRouter(t, "reth0", "100.64.0.20")
	seen, err := seenBy(t, routerNS, outside+":80", podNS)
	require.NoError(t, err)
	require.Equal(t, "100.64.0.20", seen)
}

func TestTheNodesOwnTrafficIsNotTranslated(t *testing.T) {
	_, err := datapath.Apply(node(t))
	require.NoError(t, err)
	eth0, err := netlink.LinkByName("eth0")
	require.NoError(t, err)
	require.NoError(t, netlink.AddrAdd(eth0, &netlink.Addr{IPNet: cidr("10.0.0.77/32")}))
	seen, err := seenFrom(t, routerNS, outside+":80", "", "10.0.0.77")
	require.NoError(t, err)
	require.Equal(t, "10.0.0.77", seen)
}

// dropAtRouter makes the router drop what comes from an address by a link: as EC2 drops what an ENI has no right to send.
func dropAtRouter(t *testing.T, link, source string) {
	t.Helper()
	require.NoError(t, netns.Do(routerNS, func() error {
		rule := netlink.NewRule()
		rule.IifName, rule.Src, rule.Type, rule.Priority, rule.Family = link, cidr(source+"/32"), unix.RTN_BLACKHOLE, 10, netlink.FAMILY_V4
		return netlink.RuleAdd(rule)
	}))
}

func TestExcludedDestinationsSeeThePod(t *testing.T) {
	state := node(t)
	state.Local = append(state.Local, netip.MustParsePrefix("203.0.113.0/24"))
	_, err := datapath.Apply(state)
	require.NoError(t, err)
	seen, err := seenBy(t, routerNS, outside+":80", podNS)
	require.NoError(t, err)
	require.Equal(t, "100.64.0.20", seen)
}

func TestApplyAgainChangesNothing(t *testing.T) {
	state := node(t)
	changes, err := datapath.Apply(state)
	require.NoError(t, err)
	require.NotEmpty(t, changes)
	changes, err = datapath.Apply(state)
	require.NoError(t, err)
	require.Empty(t, changes)
}

func TestApplyAddsAndRemovesOnlyTheDifference(t *testing.T) {
	state := node(t)
	_, err := datapath.Apply(state)
	require.NoError(t, err)
	more := netip.MustParsePrefix("100.64.0.32/28")
	state.ENIs[0].Prefixes = append(state.ENIs[0].Prefixes, more)
	changes, err := datapath.Apply(state)
	require.NoError(t, err)
	require.Equal(t, []datapath.Change{
		{Kind: datapath.KindRule, Object: "1536: from 100.64.0.32/28 fwmark 0x0/0x0 lookup 1001"}, {Kind: datapath.KindNftables, Object: "elements of pods"},
	}, changes)

	state.ENIs[0].Prefixes = state.ENIs[0].Prefixes[:1]
	changes, err = datapath.Apply(state)
	require.NoError(t, err)
	require.Equal(t, []datapath.Change{
		{Kind: datapath.KindRule, Removed: true, Object: "1536: from 100.64.0.32/28 fwmark 0x0/0x0 lookup 1001"}, {Kind: datapath.KindNftables, Object: "elements of pods"},
	}, changes)
}

func TestApplyRepairsWhatSomebodyTookAway(t *testing.T) {
	state := node(t)
	_, err := datapath.Apply(state)
	require.NoError(t, err)
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	require.NoError(t, err)
	for _, rule := range rules {
		if rule.Priority == 1024 {
			require.NoError(t, netlink.RuleDel(&rule))
		}
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: 1001}, netlink.RT_FILTER_TABLE)
	require.NoError(t, err)
	require.Len(t, routes, 2)
	for _, route := range routes {
		if route.Gw != nil {
			require.NoError(t, netlink.RouteDel(&route))
		}
	}
	conn, err := nftables.New()
	require.NoError(t, err)
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "dovetail"})
	require.NoError(t, conn.Flush())

	changes, err := datapath.Apply(state)
	require.NoError(t, err)
	require.Len(t, changes, 3, "%v", changes)
	seen, err := seenBy(t, routerNS, outside+":80", podNS)
	require.NoError(t, err)
	require.Equal(t, "10.0.0.10", seen)
}

func TestTheENIsSubnetIsInNoRouteOfMain(t *testing.T) {
	_, err := datapath.Apply(node(t))
	require.NoError(t, err)
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	require.NoError(t, err)
	for _, route := range routes {
		require.NotEqual(t, "100.64.0.0/19", route.Dst.String())
	}
	loose, err := os.ReadFile("/proc/sys/net/ipv4/conf/eth0/rp_filter")
	require.NoError(t, err)
	require.Equal(t, "2", strings.TrimSpace(string(loose)))
}

func TestAnENIWithoutALinkIsAnError(t *testing.T) {
	state := node(t)
	state.ENIs[0].MAC = mac("02:00:00:00:00:99")
	_, err := datapath.Apply(state)
	require.ErrorIs(t, err, datapath.ErrLinkMissing)
	there, err := datapath.HasLink("02:00:00:00:00:99")
	require.NoError(t, err)
	require.False(t, there)
}
