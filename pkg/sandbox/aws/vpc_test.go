// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

func TestBlocksAreAssociatedByTheRulesOfTheVPCGuide(t *testing.T) {
	for _, row := range []struct {
		vpc, block, code string
	}{
		{"10.0.0.0/21", "100.64.0.0/17", ""},
		{"10.0.0.0/21", "10.1.0.0/16", ""},
		{"10.0.0.0/21", "10.0.16.0/20", "InvalidVpc.Range"},
		{"10.2.0.0/21", "10.0.16.0/20", ""},
		{"10.0.0.0/21", "169.254.0.0/20", "InvalidVpc.Range"},
		{"198.19.0.0/20", "198.19.16.0/20", ""},
		{"10.0.0.0/21", "172.16.0.0/16", "InvalidVpc.Range"},
		{"10.0.0.0/21", "192.168.0.0/16", "InvalidVpc.Range"},
		{"10.0.0.0/21", "198.19.0.0/16", "InvalidVpc.Range"},
		{"10.0.0.0/21", "10.0.4.0/24", "InvalidVpc.Range"},
		{"10.0.0.0/21", "100.64.0.0/15", "InvalidVpcRange"},
		{"10.0.0.0/21", "100.64.0.0/29", "InvalidVpcRange"},
		{"10.0.0.0/21", "100.64.0.0", "InvalidParameterValue"},
		{"172.16.0.0/16", "10.0.0.0/16", "InvalidVpc.Range"},
		{"172.16.0.0/16", "172.31.0.0/16", "InvalidVpc.Range"},
		{"172.16.0.0/16", "172.17.0.0/16", ""},
		{"192.168.0.0/16", "10.0.0.0/16", "InvalidVpc.Range"},
		{"192.168.0.0/16", "100.64.0.0/16", ""},
		{"100.64.0.0/16", "10.0.0.0/16", "InvalidVpc.Range"},
	} {
		t.Run(row.vpc+" and "+row.block, func(t *testing.T) {
			w := newAccount(t, immediate())
			out, err := w.ec2.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: &row.vpc})
			require.NoError(t, err)
			association, err := w.ec2.AssociateVpcCidrBlock(t.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: out.Vpc.VpcId, CidrBlock: &row.block})
			if row.code != "" {
				requireError(t, err, row.code, "")
				return
			}
			require.NoError(t, err)
			require.Equal(t, ec2types.VpcCidrBlockStateCodeAssociating, association.CidrBlockAssociation.CidrBlockState.State)
			w.await("associated", func(s Snapshot) bool { return len(s.VPCs[0].CIDRs) == 2 })
		})
	}
}

func TestAVPCTakesFiveBlocks(t *testing.T) {
	w := newWorld(t)
	for _, block := range []string{"100.65.0.0/16", "100.66.0.0/16", "100.67.0.0/16"} {
		_, err := w.ec2.AssociateVpcCidrBlock(t.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: ptr(testVPC), CidrBlock: &block})
		require.NoError(t, err)
	}
	_, err := w.ec2.AssociateVpcCidrBlock(t.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: ptr(testVPC), CidrBlock: ptr("100.68.0.0/16")})
	requireError(t, err, "CidrLimitExceeded", "maximum number of allowed CIDRs: 5")
}

func TestASubnetThatEC2RefusesIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct{ name, vpc, cidr, zone, code, text string }{
		{"outside the VPC", testVPC, "10.1.0.0/24", "us-east-1a", "InvalidSubnet.Range", "The CIDR '10.1.0.0/24' is invalid."},
		{"larger than its block", testVPC, "10.0.0.0/20", "us-east-1a", "InvalidSubnet.Range", ""},
		{"too small", testVPC, "10.0.7.0/29", "us-east-1a", "InvalidSubnet.Range", ""},
		{"over another", testVPC, "10.0.0.128/25", "us-east-1a", "InvalidSubnet.Conflict", "conflicts with another subnet"},
		{"no such zone", testVPC, "10.0.7.0/24", "us-east-1z", "InvalidParameterValue", "us-east-1a, us-east-1b"},
		{"no such VPC", "vpc-0123456789abcdef0", "10.0.7.0/24", "us-east-1a", "InvalidVpcID.NotFound", "The vpc ID 'vpc-0123456789abcdef0' does not exist"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := w.ec2.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: &row.vpc, CidrBlock: &row.cidr, AvailabilityZone: &row.zone})
			requireError(t, err, row.code, row.text)
		})
	}
	out, err := w.ec2.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: ptr(testVPC), CidrBlock: ptr("10.0.7.9/24"), AvailabilityZoneId: ptr("use1-az3")})
	require.NoError(t, err)
	require.Equal(t, "10.0.7.0/24", *out.Subnet.CidrBlock, "host bits are dropped silently")
	require.Equal(t, "us-east-1c", *out.Subnet.AvailabilityZone)
	require.EqualValues(t, 251, *out.Subnet.AvailableIpAddressCount)
}

func TestCIDRReservationsAreKeptApart(t *testing.T) {
	w := newWorld(t)
	reserve := func(cidr string, kind ec2types.SubnetCidrReservationType) (string, error) {
		out, err := w.ec2.CreateSubnetCidrReservation(t.Context(), &ec2.CreateSubnetCidrReservationInput{SubnetId: ptr(testPods), Cidr: &cidr, ReservationType: kind})
		if err != nil {
			return "", err
		}
		return *out.SubnetCidrReservation.SubnetCidrReservationId, nil
	}
	id, err := reserve("100.64.0.128/25", "prefix")
	require.NoError(t, err)
	_, err = reserve("100.64.0.192/27", "explicit")
	requireError(t, err, "InvalidSubnetCidrReservation.Conflict", "")
	_, err = reserve("100.64.1.0/27", "prefix")
	requireError(t, err, "InvalidParameterValue", "not within")
	_, err = reserve("100.64.0.32/29", "prefix")
	requireError(t, err, "InvalidParameterValue", "/28 or larger")
	n := w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), Ipv4PrefixCount: ptr[int32](3)})
	require.False(t, prefix("100.64.0.128/25").Contains(addr(*n.PrivateIpAddress)))
	for _, p := range n.Ipv4Prefixes {
		require.True(t, prefix("100.64.0.128/25").Overlaps(prefix(*p.Ipv4Prefix)))
	}
	got, err := w.ec2.GetSubnetCidrReservations(t.Context(), &ec2.GetSubnetCidrReservationsInput{SubnetId: ptr(testPods)})
	require.NoError(t, err)
	require.Len(t, got.SubnetIpv4CidrReservations, 1)
	_, err = w.ec2.DeleteSubnetCidrReservation(t.Context(), &ec2.DeleteSubnetCidrReservationInput{SubnetCidrReservationId: &id})
	require.NoError(t, err)
	require.Len(t, interfaceOf(w.cloud.Snapshot(), *n.NetworkInterfaceId).Prefixes, 3, "prefixes stay when their reservation goes")
	_, err = w.ec2.DeleteSubnetCidrReservation(t.Context(), &ec2.DeleteSubnetCidrReservationInput{SubnetCidrReservationId: &id})
	requireError(t, err, "InvalidSubnetCidrReservationID.NotFound", "")
}

func TestANATGatewayTakesAnAddressOfItsSubnetAndRoutesLeadToIt(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	address, err := w.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{Domain: "vpc"})
	require.NoError(t, err)
	require.Equal(t, "198.51.100.7", *address.PublicIp)
	_, err = w.ec2.CreateNatGateway(ctx, &ec2.CreateNatGatewayInput{SubnetId: ptr(testNodes), AllocationId: address.AllocationId})
	requireError(t, err, "Gateway.NotAttached", "")
	gateway, err := w.ec2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})
	require.NoError(t, err)
	table, err := w.ec2.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: ptr(testVPC)})
	require.NoError(t, err)
	toGateway := &ec2.CreateRouteInput{RouteTableId: table.RouteTable.RouteTableId, DestinationCidrBlock: ptr("0.0.0.0/0"), GatewayId: gateway.InternetGateway.InternetGatewayId}
	_, err = w.ec2.CreateRoute(ctx, toGateway)
	requireError(t, err, "InvalidParameterValue", "belong to different networks")
	_, err = w.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: gateway.InternetGateway.InternetGatewayId, VpcId: ptr(testVPC)})
	require.NoError(t, err)
	_, err = w.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: gateway.InternetGateway.InternetGatewayId, VpcId: ptr(testVPC)})
	requireError(t, err, "Resource.AlreadyAssociated", "")

	nat, err := w.ec2.CreateNatGateway(ctx, &ec2.CreateNatGatewayInput{SubnetId: ptr(testNodes), AllocationId: address.AllocationId})
	require.NoError(t, err)
	require.Equal(t, ec2types.NatGatewayStatePending, nat.NatGateway.State)
	_, err = w.ec2.CreateNatGateway(ctx, &ec2.CreateNatGatewayInput{SubnetId: ptr(testNodes), AllocationId: address.AllocationId})
	requireError(t, err, "Resource.AlreadyAssociated", "")
	require.Equal(t, 250, freeAddresses(t, w, testNodes))
	toNAT := &ec2.CreateRouteInput{RouteTableId: table.RouteTable.RouteTableId, DestinationCidrBlock: ptr("0.0.0.0/0"), NatGatewayId: nat.NatGateway.NatGatewayId}
	_, err = w.ec2.CreateRoute(ctx, toNAT)
	require.NoError(t, err)
	_, err = w.ec2.CreateRoute(ctx, toGateway)
	requireError(t, err, "RouteAlreadyExists", "The route identified by 0.0.0.0/0 already exists.")
	associate := &ec2.AssociateRouteTableInput{RouteTableId: table.RouteTable.RouteTableId, SubnetId: ptr(testPods)}
	_, err = w.ec2.AssociateRouteTable(ctx, associate)
	require.NoError(t, err)
	_, err = w.ec2.AssociateRouteTable(ctx, associate)
	requireError(t, err, "Resource.AlreadyAssociated", "")

	s := w.await("available", func(s Snapshot) bool { return s.NATGateways[0].State == "available" })
	require.Equal(t, "198.51.100.7", s.NATGateways[0].PublicIP.String())
	owner := interfaceOf(s, s.NATGateways[0].InterfaceID)
	require.Equal(t, "nat_gateway", owner.Type)
	require.Equal(t, s.NATGateways[0].PrivateIP, owner.Primary)
	require.False(t, owner.SourceDestCheck)
	require.Equal(t, *table.RouteTable.RouteTableId, s.Subnets[2].RouteTableID)
	require.NotEqual(t, s.Subnets[0].RouteTableID, s.Subnets[2].RouteTableID, "others keep the main table")
	require.Equal(t, []Route{
		{Destination: prefix("10.0.0.0/21"), Target: "local"}, {Destination: prefix("100.64.0.0/17"), Target: "local"},
		{Destination: prefix("0.0.0.0/0"), Target: *nat.NatGateway.NatGatewayId},
	}, s.RouteTables[1].Routes)
	tables, err := w.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: []ec2types.Filter{{Name: ptr("association.subnet-id"), Values: []string{testPods}}}})
	require.NoError(t, err)
	require.Len(t, tables.RouteTables, 1)
	gateways, err := w.ec2.DescribeNatGateways(ctx, &ec2.DescribeNatGatewaysInput{Filter: []ec2types.Filter{{Name: ptr("state"), Values: []string{"available"}}}})
	require.NoError(t, err)
	require.Len(t, gateways.NatGateways, 1)
}

func TestSecurityGroupRulesHaveOnePeerEach(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	all := []ec2types.IpPermission{{IpProtocol: ptr("-1"), UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: ptr(testGroup)}}}}
	_, err := w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: ptr(testGroup), IpPermissions: all})
	require.NoError(t, err)
	_, err = w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: ptr(testGroup), IpPermissions: all})
	requireError(t, err, "InvalidPermission.Duplicate", "already exists")
	everywhere := []ec2types.IpPermission{{IpProtocol: ptr("-1"), IpRanges: []ec2types.IpRange{{CidrIp: ptr("0.0.0.0/0")}}}}
	_, err = w.ec2.AuthorizeSecurityGroupEgress(ctx, &ec2.AuthorizeSecurityGroupEgressInput{GroupId: ptr(testGroup), IpPermissions: everywhere})
	requireError(t, err, "InvalidPermission.Duplicate", "") // every group is born with it
	_, err = w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: ptr(testGroup), IpPermissions: []ec2types.IpPermission{{
		IpProtocol: ptr("tcp"), FromPort: ptr[int32](443), ToPort: ptr[int32](443), IpRanges: []ec2types.IpRange{{CidrIp: ptr("10.0.0.0/8")}, {CidrIp: ptr("100.64.0.0/10")}},
	}}})
	require.NoError(t, err)
	_, err = w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: ptr(testGroup), IpPermissions: []ec2types.IpPermission{{IpProtocol: ptr("tcp")}}})
	requireError(t, err, "InvalidParameterValue", "portRange")
	s := w.cloud.Snapshot().SecurityGroups[1]
	require.Equal(t, []Rule{
		{Protocol: "-1", FromPort: -1, ToPort: -1, Groups: []string{testGroup}},
		{Protocol: "tcp", FromPort: 443, ToPort: 443, CIDRs: s.Ingress[1].CIDRs},
		{Protocol: "tcp", FromPort: 443, ToPort: 443, CIDRs: s.Ingress[2].CIDRs},
	}, s.Ingress)
	require.Len(t, s.Egress, 1)
	out, err := w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{testGroup}})
	require.NoError(t, err)
	require.Len(t, out.SecurityGroups[0].IpPermissions, 2)
	require.Len(t, out.SecurityGroups[0].IpPermissions[1].IpRanges, 2)
	_, err = w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: ptr(testVPC), GroupName: ptr("cluster"), Description: ptr("again")})
	requireError(t, err, "InvalidGroup.Duplicate", "")
	_, err = w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: ptr("nowhere"), Description: ptr("no VPC")})
	requireError(t, err, "VPCIdNotSpecified", "")
}

func TestAPublicAddressComesWithOneInterfaceOnly(t *testing.T) {
	w := newWorld(t)
	_, err := w.ec2.ModifySubnetAttribute(t.Context(), &ec2.ModifySubnetAttributeInput{
		SubnetId: ptr(testNodes), MapPublicIpOnLaunch: &ec2types.AttributeBooleanValue{Value: ptr(true)},
	})
	require.NoError(t, err)
	w.run("m5.large", testNodes)
	s := w.cloud.Snapshot()
	require.True(t, s.Interfaces[0].Public.IsValid())
	out, err := w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{})
	require.NoError(t, err)
	require.Equal(t, s.Interfaces[0].Public.String(), *out.Reservations[0].Instances[0].PublicIpAddress)
	primary := primaryOnly()
	primary.SubnetId = ptr(testNodes)
	w.template(w.karpenterTemplate("two", primary, ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{DeviceIndex: ptr[int32](1), SubnetId: ptr(testPods)}))
	_, err = w.ec2.CreateFleet(t.Context(), fleet("two", 1, w.on("m5.large", "", "a")))
	require.NoError(t, err)
	require.False(t, w.cloud.Snapshot().Interfaces[1].Public.IsValid())
}

func TestABlockIsNotAsLargeAsTheDestinationOfARoute(t *testing.T) {
	w := newWorld(t)
	created, err := w.ec2.CreateInternetGateway(t.Context(), &ec2.CreateInternetGatewayInput{})
	require.NoError(t, err)
	gateway := *created.InternetGateway.InternetGatewayId
	_, err = w.ec2.AttachInternetGateway(t.Context(), &ec2.AttachInternetGatewayInput{InternetGatewayId: &gateway, VpcId: ptr(testVPC)})
	require.NoError(t, err)
	table, err := w.ec2.CreateRouteTable(t.Context(), &ec2.CreateRouteTableInput{VpcId: ptr(testVPC)})
	require.NoError(t, err)
	_, err = w.ec2.CreateRoute(t.Context(), &ec2.CreateRouteInput{RouteTableId: table.RouteTable.RouteTableId, DestinationCidrBlock: ptr("100.65.3.0/24"), GatewayId: &gateway})
	require.NoError(t, err)
	for _, block := range []string{"100.65.0.0/16", "100.65.3.0/24"} {
		_, err := w.ec2.AssociateVpcCidrBlock(t.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: ptr(testVPC), CidrBlock: &block})
		requireError(t, err, "InvalidVpc.Range", "same as or larger than the destination '100.65.3.0/24'")
	}
	_, err = w.ec2.AssociateVpcCidrBlock(t.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: ptr(testVPC), CidrBlock: ptr("100.65.3.0/25")})
	require.NoError(t, err)
}
