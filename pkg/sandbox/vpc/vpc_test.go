// SPDX-License-Identifier: Apache-2.0

package vpc_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns/netnstest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// everything is a rule that allows all.
var everything = aws.Rule{Protocol: "-1", FromPort: -1, ToPort: -1, CIDRs: []netip.Prefix{prefix("0.0.0.0/0")}}

func mac(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }

func eni(id, subnet, primary string, last byte, instance string, device int32, prefixes ...netip.Prefix) aws.Interface {
	return aws.Interface{
		ID: id, SubnetID: subnet, VPCID: "vpc-1", SourceDestCheck: true, Groups: []string{"sg-all"}, MAC: mac(last), Primary: netip.MustParseAddr(primary), Prefixes: prefixes,
		Attachment: &aws.Attachment{InstanceID: instance, DeviceIndex: device, Status: "attached"},
	}
}

// twoInstances in two node subnets, one with a pod ENI that has a prefix, and a NAT gateway in a public subnet.
func twoInstances() aws.Snapshot {
	local := []aws.Route{{Destination: prefix("10.0.0.0/21"), Target: "local"}, {Destination: prefix("100.64.0.0/17"), Target: "local"}}
	table := func(id string, routes ...aws.Route) aws.RouteTable {
		return aws.RouteTable{ID: id, VPCID: "vpc-1", Routes: slices.Concat(local, routes)}
	}
	subnet := func(id, cidr, table string) aws.Subnet {
		return aws.Subnet{ID: id, VPCID: "vpc-1", CIDR: prefix(cidr), RouteTableID: table}
	}
	gateways := eni("eni-0000000000000000a", "subnet-pub", "10.0.7.4", 10, "", 0)
	gateways.Groups, gateways.SourceDestCheck = nil, false
	return aws.Snapshot{
		VPCs: []aws.VPC{{ID: "vpc-1", CIDRs: []netip.Prefix{prefix("10.0.0.0/21"), prefix("100.64.0.0/17")}}},
		Subnets: []aws.Subnet{
			subnet("subnet-na", "10.0.0.0/24", "rtb-private"), subnet("subnet-nb", "10.0.1.0/24", "rtb-none"),
			subnet("subnet-pa", "100.64.0.0/19", "rtb-none"), subnet("subnet-pb", "100.64.32.0/19", "rtb-none"),
			subnet("subnet-pub", "10.0.7.0/24", "rtb-public"),
		},
		RouteTables: []aws.RouteTable{
			table("rtb-private", aws.Route{Destination: prefix("0.0.0.0/0"), Target: "nat-1"}),
			table("rtb-none"),
			table("rtb-public", aws.Route{Destination: prefix("0.0.0.0/0"), Target: "igw-1"}),
		},
		InternetGateways: []aws.InternetGateway{{ID: "igw-1", VPCID: "vpc-1"}},
		NATGateways: []aws.NATGateway{{
			ID: "nat-1", VPCID: "vpc-1", SubnetID: "subnet-pub", InterfaceID: gateways.ID, State: "available",
			PrivateIP: gateways.Primary, PublicIP: netip.MustParseAddr("198.51.100.7"),
		}},
		SecurityGroups: []aws.SecurityGroup{{ID: "sg-all", VPCID: "vpc-1", Ingress: []aws.Rule{everything}, Egress: []aws.Rule{everything}}},
		Instances:      []aws.Instance{{ID: "i-a", VPCID: "vpc-1", State: "running"}, {ID: "i-b", VPCID: "vpc-1", State: "running"}},
		Interfaces: []aws.Interface{
			eni("eni-00000000000000001", "subnet-na", "10.0.0.10", 1, "i-a", 0),
			eni("eni-00000000000000002", "subnet-nb", "10.0.1.10", 2, "i-b", 0),
			eni("eni-00000000000000003", "subnet-pa", "100.64.0.5", 3, "i-a", 1, prefix("100.64.0.16/28")),
			gateways,
		},
	}
}

func start(t *testing.T) *vpc.Network {
	t.Helper()
	n, err := vpc.New(filepath.Join("/run", "netns-"+filepath.Base(t.TempDir())+t.Name()))
	require.NoError(t, err)
	t.Cleanup(n.Close)
	return n
}

// get asks for a URL from inside a namespace; source may be "".
func get(path, source, url string) (body string, err error) {
	err = netns.Do(path, func() error {
		dialer := &net.Dialer{Timeout: 2 * time.Second}
		if source != "" {
			dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
		}
		address := url[len("http://"):]
		conn, err := dialer.Dial("tcp", address) // dials on this thread, which is in the namespace
		if err != nil {
			return err
		}
		client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		}}
		response, err := client.Get(url)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		body = string(content)
		return err
	})
	return body, err
}

// whoami serves the address that it sees.
func whoami(t *testing.T, path, address string) {
	t.Helper()
	listener, err := netns.Listen(path, address)
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remote, _, _ := net.SplitHostPort(r.RemoteAddr)
		_, _ = io.WriteString(w, remote)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
}

func TestInstancesReachEachOtherWithTheirOwnAddresses(t *testing.T) {
	n := start(t)
	require.NoError(t, n.Apply(twoInstances()))
	whoami(t, n.InstancePath("i-b"), "10.0.1.10:80")
	seen, err := get(n.InstancePath("i-a"), "", "http://10.0.1.10:80")
	require.NoError(t, err)
	require.Equal(t, "10.0.0.10", seen)
}

func TestASecondaryENIArrivesBareAndCarriesItsPrefix(t *testing.T) {
	n := start(t)
	require.NoError(t, n.Apply(twoInstances()))
	require.NoError(t, netns.Do(n.InstancePath("i-a"), func() error {
		link, err := netlink.LinkByName("eth1")
		require.NoError(t, err)
		require.Equal(t, mac(3).String(), link.Attrs().HardwareAddr.String())
		require.Zero(t, link.Attrs().Flags&net.FlagUp)
		require.Equal(t, vpc.MTU, link.Attrs().MTU)
		addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
		require.NoError(t, err)
		require.Empty(t, addresses)
		// What an agent would do for a pod at 100.64.0.20.
		require.NoError(t, netlink.LinkSetUp(link))
		lo, err := netlink.LinkByName("lo")
		require.NoError(t, err)
		require.NoError(t, netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(100, 64, 0, 20), Mask: net.CIDRMask(32, 32)}}))
		gateway := net.IPv4(100, 64, 0, 1)
		require.NoError(t, netlink.RouteAdd(&netlink.Route{Table: 1001, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: gateway, Mask: net.CIDRMask(32, 32)}}))
		require.NoError(t, netlink.RouteAdd(&netlink.Route{Table: 1001, LinkIndex: link.Attrs().Index, Gw: gateway, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}))
		rule := netlink.NewRule()
		rule.Src, rule.Table, rule.Priority = &net.IPNet{IP: net.IPv4(100, 64, 0, 16), Mask: net.CIDRMask(28, 32)}, 1001, 1536
		require.NoError(t, netlink.RuleAdd(rule))
		return nil
	}))
	whoami(t, n.InstancePath("i-b"), "10.0.1.10:80")
	seen, err := get(n.InstancePath("i-a"), "100.64.0.20", "http://10.0.1.10:80")
	require.NoError(t, err)
	require.Equal(t, "100.64.0.20", seen)

	without := twoInstances()
	without.Interfaces = slices.Delete(without.Interfaces, 2, 3)
	require.NoError(t, n.Apply(without))
	require.NoError(t, netns.Do(n.InstancePath("i-a"), func() error {
		_, err := netlink.LinkByName("eth1")
		require.ErrorAs(t, err, &netlink.LinkNotFoundError{}, "a detached ENI is gone from the guest")
		return nil
	}))
}

func TestAnENICannotSendWithAnAddressThatItDoesNotHold(t *testing.T) {
	n := start(t)
	require.NoError(t, n.Apply(twoInstances()))
	whoami(t, n.InstancePath("i-b"), "10.0.1.10:80")
	require.NoError(t, netns.Do(n.InstancePath("i-a"), func() error {
		lo, err := netlink.LinkByName("lo")
		require.NoError(t, err)
		// 100.64.0.20 is the prefix of eth1, and leaves by eth0 here.
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(100, 64, 0, 20), Mask: net.CIDRMask(32, 32)}})
	}))
	_, err := get(n.InstancePath("i-a"), "100.64.0.20", "http://10.0.1.10:80")
	require.Error(t, err)
}

func TestOnlySubnetsWithARouteToTheNATGatewayReachTheInternet(t *testing.T) {
	n := start(t)
	require.NoError(t, n.Apply(twoInstances()))
	url := "http://" + vpc.InternetHost.String() + ":80"
	seen, err := get(n.InstancePath("i-a"), "", url)
	require.NoError(t, err)
	require.Equal(t, "198.51.100.7", seen, "the internet sees the NAT gateway")
	translations, err := n.Translations()
	require.NoError(t, err)
	require.NotEmpty(t, translations)
	require.Equal(t, "10.0.0.10", translations[0].Source.String())
	require.Equal(t, vpc.InternetHost, translations[0].Destination)

	_, err = get(n.InstancePath("i-b"), "", url)
	require.Error(t, err)
}

func TestWhatIsForAPrefixIsDeliveredWithoutAskingTheGuest(t *testing.T) {
	n := start(t)
	require.NoError(t, n.Apply(twoInstances()))
	whoami(t, pod(t, n, "i-a", "100.64.0.20"), "100.64.0.20:80") // the instance answers no ARP for it
	seen, err := get(n.InstancePath("i-b"), "", "http://100.64.0.20:80")
	require.NoError(t, err)
	require.Equal(t, "10.0.1.10", seen)
}

func TestNobodyAnswersForAnAddressThatNoENIHolds(t *testing.T) {
	n := start(t)
	require.NoError(t, n.Apply(twoInstances()))
	_, err := get(n.InstancePath("i-a"), "", "http://10.0.0.99:80")
	require.ErrorContains(t, err, "timeout", "ARP for it gets no answer")
	_, err = get(n.InstancePath("i-a"), "", "http://10.0.1.99:80")
	require.ErrorContains(t, err, "timeout", "and nobody tells the sender")
}

func TestApplyAgainChangesNothingAndTerminationLeavesNothing(t *testing.T) {
	n := start(t)
	require.NoError(t, n.Apply(twoInstances()))
	whoami(t, n.InstancePath("i-b"), "10.0.1.10:80")
	require.NoError(t, n.Apply(twoInstances()))
	_, err := get(n.InstancePath("i-a"), "", "http://10.0.1.10:80")
	require.NoError(t, err)

	require.NoError(t, n.Apply(aws.Snapshot{}))
	require.NoFileExists(t, n.InstancePath("i-a"))
	require.NoFileExists(t, n.RouterPath("vpc-1"))
	require.NoError(t, netns.Do(n.InternetPath(), func() error {
		links, err := netlink.LinkList()
		require.NoError(t, err)
		for _, link := range links {
			require.NotRegexp(t, "^v", link.Attrs().Name)
		}
		return nil
	}))
}
