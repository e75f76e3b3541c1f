// SPDX-License-Identifier: Apache-2.0

package securitygroups_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns/netnstest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// testPackets dials an address of a pod ENI from another node: the ENI's new group lets in what the old one does not.
func testPackets(w *world) {
	_, err := w.api.AuthorizeSecurityGroupIngress(w.Context(), &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: awssdk.String(w.second), IpPermissions: []ec2types.IpPermission{{
			IpProtocol: awssdk.String("tcp"), FromPort: awssdk.Int32(80), ToPort: awssdk.Int32(80),
			UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: awssdk.String(w.nodes)}},
		}},
	})
	require.NoError(w, err)
	server, client := w.node(), w.node()
	id := w.podENI(server, w.first)
	network, err := vpc.New(filepath.Join("/run", "netns-"+filepath.Base(w.TempDir())))
	require.NoError(w, err)
	w.Cleanup(network.Close)
	require.NoError(w, network.Apply(w.cloud.Snapshot()))
	address := net.ParseIP(awssdk.ToString(w.describe(id)[0].PrivateIpAddress)).To4()
	require.NoError(w, netns.Do(network.InstancePath(server), func() error { return own(address) }))
	listener, err := netns.Listen(network.InstancePath(server), net.JoinHostPort(address.String(), "80"))
	require.NoError(w, err)
	defer listener.Close()
	dial := func() error {
		return netns.Do(network.InstancePath(client), func() error {
			conn, err := net.DialTimeout("tcp", listener.Addr().String(), 2*time.Second)
			if err != nil {
				return err
			}
			return conn.Close()
		})
	}
	require.ErrorContains(w, dial(), "timeout")

	w.setGroups(w.second)
	w.round()
	require.NoError(w, network.Apply(w.cloud.Snapshot()))
	require.NoError(w, dial())

	w.setGroups(w.first)
	w.round()
	require.NoError(w, network.Apply(w.cloud.Snapshot()))
	require.ErrorContains(w, dial(), "timeout", "for new connections, at once")
}

// own gives an instance the address of its second ENI, as an agent does.
func own(address net.IP) error {
	link, err := netlink.LinkByName("eth1")
	if err != nil {
		return err
	}
	one := &net.IPNet{IP: address, Mask: net.CIDRMask(32, 32)}
	gateway := net.IPv4(10, 0, 32, 1).To4() // of the pod subnet
	rule := netlink.NewRule()
	rule.Src, rule.Table, rule.Priority = one, 1001, 1536
	for _, step := range []func() error{
		func() error { return netns.Sysctl("ipv4/conf/all/rp_filter", "0") },
		func() error { return netlink.LinkSetUp(link) },
		func() error { return netlink.AddrReplace(link, &netlink.Addr{IPNet: one}) },
		func() error {
			return netlink.RouteReplace(&netlink.Route{Table: 1001, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: gateway, Mask: net.CIDRMask(32, 32)}})
		},
		func() error {
			return netlink.RouteReplace(&netlink.Route{Table: 1001, LinkIndex: link.Attrs().Index, Gw: gateway, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}})
		},
		func() error { return netlink.RuleAdd(rule) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
