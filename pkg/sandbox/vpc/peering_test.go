// SPDX-License-Identifier: Apache-2.0

package vpc_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// peered is twoInstances and a VPC with a range of its own that is peered, with an instance i-p at 192.168.0.10 and a NAT
// gateway. Routes to each other are in the first instance's subnet and in the peer's.
func peered() aws.Snapshot {
	s := twoInstances()
	local := aws.Route{Destination: prefix("192.168.0.0/24"), Target: "local"}
	s.VPCs = append(s.VPCs, aws.VPC{ID: "vpc-2", CIDRs: []netip.Prefix{prefix("192.168.0.0/24")}})
	s.Subnets = append(s.Subnets, aws.Subnet{ID: "subnet-peer", VPCID: "vpc-2", CIDR: prefix("192.168.0.0/25"), RouteTableID: "rtb-peer"})
	s.RouteTables = append(s.RouteTables, aws.RouteTable{ID: "rtb-peer", VPCID: "vpc-2", Routes: []aws.Route{local, to("10.0.0.0/21", "pcx-1")}})
	s.SecurityGroups = append(s.SecurityGroups, aws.SecurityGroup{ID: "sg-peer", VPCID: "vpc-2", Ingress: []aws.Rule{everything}, Egress: []aws.Rule{everything}})
	s.Instances = append(s.Instances, aws.Instance{ID: "i-p", VPCID: "vpc-2", State: "running"})
	there := eni("eni-000000000000000b1", "subnet-peer", "192.168.0.10", 21, "i-p", 0)
	there.VPCID, there.Groups = "vpc-2", []string{"sg-peer"}
	s.Interfaces = append(s.Interfaces, there)
	s.Peerings = []aws.Peering{{ID: "pcx-1", Requester: "vpc-1", Accepter: "vpc-2"}}
	setRoutes(&s, "rtb-private", to("192.168.0.0/24", "pcx-1"), to("0.0.0.0/0", "nat-1"))
	setRoutes(&s, "rtb-none", to("192.168.0.0/24", "pcx-1"))
	return s
}

const peerURL = "http://192.168.0.10:80"

func TestAPeeredVPCSeesTheSender(t *testing.T) {
	n := start(t)
	require.NoError(t, n.Apply(peered()))
	whoami(t, n.InstancePath("i-p"), "192.168.0.10:80")
	whoami(t, n.InstancePath("i-a"), "10.0.0.10:80")
	seen, err := get(n.InstancePath("i-a"), "", peerURL)
	require.NoError(t, err)
	require.Equal(t, "10.0.0.10", seen)
	seen, err = get(n.InstancePath("i-p"), "", "http://10.0.0.10:80")
	require.NoError(t, err)
	require.Equal(t, "192.168.0.10", seen)
}

func TestAPodIsAnsweredByAPeeredVPCThatHasARouteToThePodSubnet(t *testing.T) {
	n := start(t)
	s := peered()
	require.NoError(t, n.Apply(s))
	whoami(t, n.InstancePath("i-p"), "192.168.0.10:80")
	from := pod(t, n, "i-a", "100.64.0.20")
	_, err := get(from, "", peerURL)
	require.Error(t, err, "the peer has a route to the nodes' block only")

	peer := &s.RouteTables[3]
	peer.Routes = append(peer.Routes, to("100.64.0.0/17", "pcx-1"))
	require.NoError(t, n.Apply(s))
	seen, err := get(from, "", peerURL)
	require.NoError(t, err)
	require.Equal(t, "100.64.0.20", seen)
}

func TestAPeeredVPCIsReachedOnlyWhen(t *testing.T) {
	for name, change := range map[string]func(*aws.Snapshot){
		"the sender's subnet has a route": func(s *aws.Snapshot) { setRoutes(s, "rtb-private", to("0.0.0.0/0", "nat-1")) },
		"the receiver's subnet has one":   func(s *aws.Snapshot) { s.RouteTables[3].Routes = s.RouteTables[3].Routes[:1] },
		"the peering is active": func(s *aws.Snapshot) {
			s.Peerings = nil
			s.RouteTables[0].Routes[2].Blackhole, s.RouteTables[3].Routes[1].Blackhole = true, true
		},
		"a rule there lets it in": func(s *aws.Snapshot) {
			s.SecurityGroups[1].Ingress = []aws.Rule{{Protocol: "-1", FromPort: -1, ToPort: -1, CIDRs: []netip.Prefix{prefix("100.64.0.0/17")}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t)
			s := peered()
			require.NoError(t, n.Apply(s))
			whoami(t, n.InstancePath("i-p"), "192.168.0.10:80")
			_, err := get(n.InstancePath("i-a"), "", peerURL)
			require.NoError(t, err)
			change(&s)
			require.NoError(t, n.Apply(s))
			_, err = get(n.InstancePath("i-a"), "", peerURL)
			require.Error(t, err)
		})
	}
}

func TestAPeeringLeadsNoFarther(t *testing.T) {
	n := start(t)
	s := peered()
	s.RouteTables[3].Routes = append(s.RouteTables[3].Routes, to("0.0.0.0/0", "pcx-1"))
	require.NoError(t, n.Apply(s))
	_, err := get(n.InstancePath("i-p"), "", internetURL)
	require.Error(t, err, "a NAT gateway serves its own VPC")
}

func TestTwoVPCsWithTheSameRangeDoNotMeet(t *testing.T) {
	n := start(t)
	s := twoInstances()
	other := eni("eni-000000000000000c1", "subnet-twin", "10.0.0.10", 31, "i-t", 0)
	other.VPCID, other.Groups = "vpc-t", []string{"sg-t"}
	s.VPCs = append(s.VPCs, aws.VPC{ID: "vpc-t", CIDRs: []netip.Prefix{prefix("10.0.0.0/21")}})
	s.Subnets = append(s.Subnets, aws.Subnet{ID: "subnet-twin", VPCID: "vpc-t", CIDR: prefix("10.0.0.0/24"), RouteTableID: "rtb-t"})
	s.RouteTables = append(s.RouteTables, aws.RouteTable{ID: "rtb-t", VPCID: "vpc-t", Routes: []aws.Route{to("10.0.0.0/21", "local")}})
	s.SecurityGroups = append(s.SecurityGroups, aws.SecurityGroup{ID: "sg-t", VPCID: "vpc-t", Ingress: []aws.Rule{everything}, Egress: []aws.Rule{everything}})
	s.Instances = append(s.Instances, aws.Instance{ID: "i-t", VPCID: "vpc-t", State: "running"})
	s.Interfaces = append(s.Interfaces, other)
	require.NoError(t, n.Apply(s))
	serveWho(t, n, &s)
	whoami(t, n.InstancePath("i-b"), "10.0.1.10:80")
	_, err := get(n.InstancePath("i-a"), "", "http://10.0.1.10:80")
	require.NoError(t, err)
	_, err = get(n.InstancePath("i-t"), "", "http://10.0.1.10:80")
	require.Error(t, err)
	for _, id := range []string{"i-a", "i-t"} {
		who, err := metadataFrom(n.InstancePath(id), "GET")
		require.NoError(t, err)
		require.Equal(t, []string{id}, who, "one address, two instances")
	}
}
