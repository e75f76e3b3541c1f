// SPDX-License-Identifier: Apache-2.0

package vpc_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

var internetURL = "http://" + vpc.InternetHost.String() + ":80"

// setRoutes of a route table besides its local ones.
func setRoutes(s *aws.Snapshot, table string, routes ...aws.Route) {
	for i, t := range s.RouteTables {
		if t.ID == table {
			s.RouteTables[i].Routes = append(t.Routes[:2:2], routes...)
		}
	}
}

func to(destination, target string) aws.Route {
	return aws.Route{Destination: prefix(destination), Target: target}
}

// own gives an instance one more address, whether EC2 knows it or not.
func own(t *testing.T, n *vpc.Network, instance, address string) {
	t.Helper()
	require.NoError(t, netns.Do(n.InstancePath(instance), func() error {
		lo, err := netlink.LinkByName("lo")
		require.NoError(t, err)
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(address).To4(), Mask: net.CIDRMask(32, 32)}})
	}))
}

func forward(t *testing.T, n *vpc.Network, instance string) {
	t.Helper()
	require.NoError(t, netns.Do(n.InstancePath(instance), func() error { return netns.Sysctl("ipv4/ip_forward", "1") }))
}

func TestTheRouteTableOfTheSendersSubnetDecides(t *testing.T) {
	host := vpc.InternetHost.String() + "/32"
	blackhole := to(host, "nat-gone")
	blackhole.Blackhole = true
	for _, test := range []struct {
		name   string
		routes []aws.Route
		passes bool
	}{
		{"a default route to a NAT gateway", []aws.Route{to("0.0.0.0/0", "nat-1")}, true},
		{"no route", nil, false},
		{"a route to another place", []aws.Route{to("198.18.0.0/15", "nat-1")}, false},
		{"the longest prefix, a blackhole", []aws.Route{to("0.0.0.0/0", "nat-1"), blackhole}, false},
		{"the longest prefix, in spite of a blackhole", []aws.Route{to(host, "nat-1"), {Destination: prefix("0.0.0.0/0"), Target: "nat-gone", Blackhole: true}}, true},
		{"an internet gateway, without a public address", []aws.Route{to("0.0.0.0/0", "igw-1")}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := start(t)
			s := twoInstances()
			setRoutes(&s, "rtb-private", test.routes...)
			require.NoError(t, n.Apply(s))
			seen, err := get(n.InstancePath("i-a"), "", internetURL)
			if !test.passes {
				require.ErrorContains(t, err, "timeout", "the router drops in silence")
				return
			}
			require.NoError(t, err)
			require.Equal(t, "198.51.100.7", seen)
		})
	}
}

func TestAnotherAssociationTakesEffectAtOnce(t *testing.T) {
	n := start(t)
	s := twoInstances()
	require.NoError(t, n.Apply(s))
	_, err := get(n.InstancePath("i-b"), "", internetURL)
	require.Error(t, err)
	s.Subnets[1].RouteTableID = "rtb-private"
	require.NoError(t, n.Apply(s))
	_, err = get(n.InstancePath("i-b"), "", internetURL)
	require.NoError(t, err)
	s.RouteTables = s.RouteTables[1:] // gone, and its number free for another
	s.Subnets[0].RouteTableID, s.Subnets[1].RouteTableID = "rtb-none", "rtb-none"
	require.NoError(t, n.Apply(s))
	_, err = get(n.InstancePath("i-b"), "", internetURL)
	require.Error(t, err)
}

func TestAnInstanceRoutesForOthersOnlyWithoutTheSourceDestinationCheck(t *testing.T) {
	n := start(t)
	s := twoInstances()
	setRoutes(&s, "rtb-none", to("0.0.0.0/0", s.Interfaces[0].ID))
	require.NoError(t, n.Apply(s))
	forward(t, n, "i-a")
	_, err := get(n.InstancePath("i-b"), "", internetURL)
	require.Error(t, err, "the check is on")

	s.Interfaces[0].SourceDestCheck = false
	require.NoError(t, n.Apply(s))
	seen, err := get(n.InstancePath("i-b"), "", internetURL)
	require.NoError(t, err)
	require.Equal(t, "198.51.100.7", seen)
	translations, err := n.Translations()
	require.NoError(t, err)
	require.Equal(t, "10.0.1.10", translations[0].Source.String(), "it forwards, it does not translate")

	s.Interfaces[0].Attachment = nil
	s.RouteTables[1].Routes[2].Blackhole = true
	require.NoError(t, n.Apply(s))
	_, err = get(n.InstancePath("i-b"), "", internetURL)
	require.Error(t, err, "the interface is detached")
}

func TestWithoutTheSourceDestinationCheckAnyAddressMayBeSentFrom(t *testing.T) {
	n := start(t)
	s := twoInstances()
	s.Interfaces[0].SourceDestCheck = false
	setRoutes(&s, "rtb-none", to("198.18.0.0/15", s.Interfaces[0].ID))
	require.NoError(t, n.Apply(s))
	own(t, n, "i-a", "198.18.0.1")
	whoami(t, n.InstancePath("i-b"), "10.0.1.10:80")
	seen, err := get(n.InstancePath("i-a"), "198.18.0.1", "http://10.0.1.10:80")
	require.NoError(t, err)
	require.Equal(t, "198.18.0.1", seen)

	s.Interfaces[0].SourceDestCheck = true
	require.NoError(t, n.Apply(s))
	_, err = get(n.InstancePath("i-a"), "198.18.0.1", "http://10.0.1.10:80")
	require.Error(t, err)
}

// public gives the first instance's subnet a route to the internet gateway, and the instance a public address.
func public() aws.Snapshot {
	s := twoInstances()
	s.Subnets[0].RouteTableID = "rtb-public"
	s.Interfaces[0].Public = netip.MustParseAddr("198.51.100.20")
	return s
}

func TestAnInstanceWithAPublicAddressIsOnTheInternetByIt(t *testing.T) {
	n := start(t)
	require.NoError(t, n.Apply(public()))
	seen, err := get(n.InstancePath("i-a"), "", internetURL)
	require.NoError(t, err)
	require.Equal(t, "198.51.100.20", seen)

	whoami(t, n.InstancePath("i-a"), "10.0.0.10:80")
	seen, err = get(n.InternetPath(), "", "http://198.51.100.20:80")
	require.NoError(t, err)
	require.Equal(t, vpc.InternetHost.String(), seen, "the internet gateway leaves the other side's address")
}

func TestAPublicAddressNeedsARouteAGroupAndAGateway(t *testing.T) {
	for name, change := range map[string]func(*aws.Snapshot){
		"answers leave by a NAT gateway": func(s *aws.Snapshot) { s.Subnets[0].RouteTableID = "rtb-private" },
		"no route for answers":           func(s *aws.Snapshot) { s.Subnets[0].RouteTableID = "rtb-none" },
		"no rule lets it in": func(s *aws.Snapshot) {
			s.SecurityGroups[0].Ingress = []aws.Rule{{Protocol: "-1", FromPort: -1, ToPort: -1, CIDRs: []netip.Prefix{prefix("10.0.0.0/8")}}}
		},
		"no internet gateway": func(s *aws.Snapshot) {
			s.InternetGateways = nil
			setRoutes(s, "rtb-public", aws.Route{Destination: prefix("0.0.0.0/0"), Target: "igw-1", Blackhole: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t)
			s := public()
			change(&s)
			require.NoError(t, n.Apply(s))
			whoami(t, n.InstancePath("i-a"), "10.0.0.10:80")
			_, err := get(n.InternetPath(), "", "http://198.51.100.20:80")
			require.Error(t, err)
		})
	}
}

func TestThePublicAddressIsOfThePrimaryAddressOnly(t *testing.T) {
	n := start(t)
	s := public()
	s.Interfaces[0].Secondaries = []netip.Addr{netip.MustParseAddr("10.0.0.11")}
	require.NoError(t, n.Apply(s))
	own(t, n, "i-a", "10.0.0.11")
	_, err := get(n.InstancePath("i-a"), "10.0.0.11", internetURL)
	require.Error(t, err)
}
