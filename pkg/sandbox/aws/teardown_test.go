// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

// public is the part of a VPC that leads to the internet.
type public struct{ gateway, address, nat, table, association string }

func (w *world) public() public {
	w.Helper()
	ctx := w.ctx()
	var p public
	gateway, err := w.ec2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})
	require.NoError(w, err)
	p.gateway = *gateway.InternetGateway.InternetGatewayId
	_, err = w.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: &p.gateway, VpcId: ptr(testVPC)})
	require.NoError(w, err)
	address, err := w.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{})
	require.NoError(w, err)
	p.address = *address.AllocationId
	nat, err := w.ec2.CreateNatGateway(ctx, &ec2.CreateNatGatewayInput{SubnetId: ptr(testNodes), AllocationId: &p.address})
	require.NoError(w, err)
	p.nat = *nat.NatGateway.NatGatewayId
	table, err := w.ec2.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: ptr(testVPC)})
	require.NoError(w, err)
	p.table = *table.RouteTable.RouteTableId
	association, err := w.ec2.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: &p.table, SubnetId: ptr(testPods)})
	require.NoError(w, err)
	p.association = *association.AssociationId
	_, err = w.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &p.table, DestinationCidrBlock: ptr("0.0.0.0/0"), NatGatewayId: &p.nat})
	require.NoError(w, err)
	return p
}

func natState(s Snapshot, id string) string {
	for _, g := range s.NATGateways {
		if g.ID == id {
			return g.State
		}
	}
	return ""
}

func TestAVPCIsTakenDownFromItsLeavesOnly(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	p := w.public()
	id := w.run("m5.large", testNodes)
	s := w.cloud.Snapshot()
	mainTable := s.RouteTables[0].ID

	_, err := w.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: ptr(testVPC)})
	requireError(t, err, "DependencyViolation", "The vpc '"+testVPC+"' has dependencies and cannot be deleted.")
	_, err = w.ec2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: ptr(testNodes)})
	requireError(t, err, "DependencyViolation", testNodes)
	_, err = w.ec2.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: &p.gateway, VpcId: ptr(testVPC)})
	requireError(t, err, "DependencyViolation", "mapped public address")
	_, err = w.ec2.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: &p.gateway})
	requireError(t, err, "DependencyViolation", p.gateway)
	_, err = w.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: &p.address})
	requireError(t, err, "InvalidIPAddress.InUse", "198.51.100.7")
	_, err = w.ec2.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: &p.table})
	requireError(t, err, "DependencyViolation", p.table)
	_, err = w.ec2.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: &mainTable})
	requireError(t, err, "DependencyViolation", mainTable)
	blocks, err := w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{testVPC}})
	require.NoError(t, err)
	first, second := blocks.Vpcs[0].CidrBlockAssociationSet[0].AssociationId, blocks.Vpcs[0].CidrBlockAssociationSet[1].AssociationId
	_, err = w.ec2.DisassociateVpcCidrBlock(ctx, &ec2.DisassociateVpcCidrBlockInput{AssociationId: first})
	requireError(t, err, "OperationNotPermitted", "primary IPv4 CIDR block")
	_, err = w.ec2.DisassociateVpcCidrBlock(ctx, &ec2.DisassociateVpcCidrBlockInput{AssociationId: second})
	requireError(t, err, "InvalidCidrBlock.InUse", "100.64.0.0/17")

	_, err = w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	w.await("terminated", func(s Snapshot) bool { return stateOf(s, id) == "terminated" })
	_, err = w.ec2.DeleteNatGateway(ctx, &ec2.DeleteNatGatewayInput{NatGatewayId: &p.nat})
	require.NoError(t, err)
	s = w.await("deleted", func(s Snapshot) bool { return natState(s, p.nat) == "" })
	require.True(t, s.RouteTables[len(s.RouteTables)-1].Routes[2].Blackhole)
	nats, err := w.ec2.DescribeNatGateways(ctx, &ec2.DescribeNatGatewaysInput{NatGatewayIds: []string{p.nat}})
	require.NoError(t, err)
	require.Equal(t, ec2types.NatGatewayStateDeleted, nats.NatGateways[0].State, "it is told of for a while")
	_, err = w.ec2.DeleteNatGateway(ctx, &ec2.DeleteNatGatewayInput{NatGatewayId: &p.nat})
	requireError(t, err, "NatGatewayNotFound", p.nat)
	_, err = w.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: &p.address})
	require.NoError(t, err)
	_, err = w.ec2.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: &p.association})
	require.NoError(t, err)
	_, err = w.ec2.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: &p.table})
	require.NoError(t, err)
	for _, subnet := range []string{testNodes, testNodesB, testPods} {
		_, err = w.ec2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: &subnet})
		require.NoError(t, err)
	}
	_, err = w.ec2.DisassociateVpcCidrBlock(ctx, &ec2.DisassociateVpcCidrBlockInput{AssociationId: second})
	require.NoError(t, err)
	w.await("the block is gone", func(s Snapshot) bool { return len(s.VPCs[0].CIDRs) == 1 })
	_, err = w.ec2.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: &p.gateway, VpcId: ptr(testVPC)})
	require.NoError(t, err)
	_, err = w.ec2.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: &p.gateway, VpcId: ptr(testVPC)})
	requireError(t, err, "Gateway.NotAttached", p.gateway)
	_, err = w.ec2.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: &p.gateway})
	require.NoError(t, err)
	_, err = w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: ptr(testGroup)})
	require.NoError(t, err)
	_, err = w.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: ptr(testVPC), DryRun: ptr(true)})
	requireError(t, err, "DryRunOperation", "")
	_, err = w.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: ptr(testVPC)})
	require.NoError(t, err)
	s = w.cloud.Snapshot()
	require.Empty(t, s.VPCs)
	require.Empty(t, s.RouteTables)
	require.Empty(t, s.SecurityGroups)
	require.Empty(t, s.Interfaces)
}

func TestRoutesAreReplacedAndDeleted(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	p := w.public()
	routes := func() map[string]string {
		targets := map[string]string{}
		for _, table := range w.cloud.Snapshot().RouteTables {
			if table.ID == p.table {
				for _, r := range table.Routes {
					targets[r.Destination.String()] = r.Target
				}
			}
		}
		return targets
	}
	_, err := w.ec2.ReplaceRoute(ctx, &ec2.ReplaceRouteInput{RouteTableId: &p.table, DestinationCidrBlock: ptr("0.0.0.0/0"), GatewayId: &p.gateway})
	require.NoError(t, err)
	require.Equal(t, p.gateway, routes()["0.0.0.0/0"])
	_, err = w.ec2.ReplaceRoute(ctx, &ec2.ReplaceRouteInput{RouteTableId: &p.table, DestinationCidrBlock: ptr("172.20.0.0/16"), GatewayId: &p.gateway})
	requireError(t, err, "InvalidParameterValue", "There is no route defined for '172.20.0.0/16' in the route table. Use CreateRoute instead.")
	_, err = w.ec2.DeleteRoute(ctx, &ec2.DeleteRouteInput{RouteTableId: &p.table, DestinationCidrBlock: ptr("10.0.0.0/21")})
	requireError(t, err, "InvalidParameterValue", "cannot remove local route 10.0.0.0/21")
	_, err = w.ec2.DeleteRoute(ctx, &ec2.DeleteRouteInput{RouteTableId: &p.table, DestinationCidrBlock: ptr("172.20.0.0/16")})
	requireError(t, err, "InvalidRoute.NotFound", "no route with destination-cidr-block 172.20.0.0/16 in route table")
	_, err = w.ec2.DeleteRoute(ctx, &ec2.DeleteRouteInput{RouteTableId: &p.table, DestinationCidrBlock: ptr("0.0.0.0/0")})
	require.NoError(t, err)
	require.NotContains(t, routes(), "0.0.0.0/0")
}

func TestARouteTableAssociationMovesASubnetAndTheMainTable(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	p := w.public()
	main := w.cloud.Snapshot().RouteTables[0].ID
	tableOf := func(subnet string) string {
		for _, s := range w.cloud.Snapshot().Subnets {
			if s.ID == subnet {
				return s.RouteTableID
			}
		}
		return ""
	}
	moved, err := w.ec2.ReplaceRouteTableAssociation(ctx, &ec2.ReplaceRouteTableAssociationInput{AssociationId: &p.association, RouteTableId: &main})
	require.NoError(t, err)
	require.Equal(t, main, tableOf(testPods))
	_, err = w.ec2.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: &p.association})
	requireError(t, err, "InvalidAssociationID.NotFound", p.association)
	_, err = w.ec2.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: moved.NewAssociationId})
	require.NoError(t, err)

	tables, err := w.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{RouteTableIds: []string{main}})
	require.NoError(t, err)
	mainAssociation := tables.RouteTables[0].Associations[0].RouteTableAssociationId
	_, err = w.ec2.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: mainAssociation})
	requireError(t, err, "InvalidParameterValue", "cannot disassociate the main route table association")
	_, err = w.ec2.ReplaceRouteTableAssociation(ctx, &ec2.ReplaceRouteTableAssociationInput{AssociationId: mainAssociation, RouteTableId: &p.table})
	require.NoError(t, err)
	require.Equal(t, p.table, tableOf(testNodesB), "a subnet without a table of its own follows the main one")
}

func TestGatewaysAndAddressesAreDescribed(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	p := w.public()
	gateways, err := w.ec2.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{Filters: []ec2types.Filter{
		{Name: ptr("attachment.vpc-id"), Values: []string{testVPC}},
	}})
	require.NoError(t, err)
	require.Equal(t, p.gateway, *gateways.InternetGateways[0].InternetGatewayId)
	require.EqualValues(t, "available", gateways.InternetGateways[0].Attachments[0].State)
	for _, in := range []*ec2.DescribeAddressesInput{
		{AllocationIds: []string{p.address}}, {PublicIps: []string{"198.51.100.7"}},
		{Filters: []ec2types.Filter{{Name: ptr("domain"), Values: []string{"vpc"}}}},
	} {
		addresses, err := w.ec2.DescribeAddresses(ctx, in)
		require.NoError(t, err)
		require.Len(t, addresses.Addresses, 1)
		require.NotEmpty(t, addresses.Addresses[0].AssociationId)
	}
	_, err = w.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{PublicIps: []string{"198.51.100.99"}})
	requireError(t, err, "InvalidAddress.NotFound", "198.51.100.99")
}

func TestSecurityGroupRulesAreDescribedTaggedAndRevoked(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	other, err := w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: ptr(testVPC), GroupName: ptr("pods"), Description: ptr("pods")})
	require.NoError(t, err)
	web := []ec2types.IpPermission{{
		IpProtocol: ptr("tcp"), FromPort: ptr[int32](80), ToPort: ptr[int32](80), IpRanges: []ec2types.IpRange{{CidrIp: ptr("10.0.0.0/8"), Description: ptr("web")}},
		UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: other.GroupId}},
	}}
	added, err := w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: ptr(testGroup), IpPermissions: web,
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeSecurityGroupRule, Tags: []ec2types.Tag{{Key: ptr("a"), Value: ptr("b")}}}},
	})
	require.NoError(t, err)
	require.Len(t, added.SecurityGroupRules, 2)
	rules, err := w.ec2.DescribeSecurityGroupRules(ctx, &ec2.DescribeSecurityGroupRulesInput{Filters: []ec2types.Filter{
		{Name: ptr("group-id"), Values: []string{testGroup}}, {Name: ptr("tag:a"), Values: []string{"b"}},
	}})
	require.NoError(t, err)
	require.Equal(t, added.SecurityGroupRules, rules.SecurityGroupRules)
	tags, err := w.ec2.DescribeTags(ctx, &ec2.DescribeTagsInput{Filters: []ec2types.Filter{
		{Name: ptr("resource-type"), Values: []string{"security-group-rule"}}, {Name: ptr("key"), Values: []string{"a"}},
	}})
	require.NoError(t, err)
	require.Len(t, tags.Tags, 2)
	require.Equal(t, *added.SecurityGroupRules[0].SecurityGroupRuleId, *tags.Tags[0].ResourceId)

	_, err = w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: other.GroupId})
	requireError(t, err, "DependencyViolation", "resource "+*other.GroupId+" has a dependent object")
	revoked, err := w.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{
		GroupId: ptr(testGroup), SecurityGroupRuleIds: []string{*added.SecurityGroupRules[0].SecurityGroupRuleId},
	})
	require.NoError(t, err)
	require.Equal(t, "10.0.0.0/8", *revoked.RevokedSecurityGroupRules[0].CidrIpv4)
	_, err = w.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: ptr(testGroup), IpPermissions: web})
	requireError(t, err, "InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
	web[0].IpRanges = nil
	_, err = w.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: ptr(testGroup), IpPermissions: web})
	require.NoError(t, err)
	n := w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), Groups: []string{*other.GroupId}})
	_, err = w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: other.GroupId})
	requireError(t, err, "DependencyViolation", "")
	_, err = w.ec2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: n.NetworkInterfaceId})
	require.NoError(t, err)
	_, err = w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: other.GroupId})
	require.NoError(t, err)
	for _, g := range w.cloud.Snapshot().SecurityGroups {
		if g.Name == "default" {
			_, err = w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &g.ID})
			requireError(t, err, "CannotDelete", g.ID)
		}
	}
	_, err = w.ec2.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{
		GroupId: ptr(testGroup), IpPermissions: []ec2types.IpPermission{{IpProtocol: ptr("-1"), IpRanges: []ec2types.IpRange{{CidrIp: ptr("0.0.0.0/0")}}}},
	})
	require.NoError(t, err, "a group's first rule, all traffic out, can be taken away")
}

func TestAttributesAreChangedOneAtATime(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	yes := &ec2types.AttributeBooleanValue{Value: ptr(true)}
	_, err := w.ec2.ModifyVpcAttribute(ctx, &ec2.ModifyVpcAttributeInput{VpcId: ptr(testVPC), EnableDnsHostnames: yes})
	require.NoError(t, err)
	_, err = w.ec2.ModifyVpcAttribute(ctx, &ec2.ModifyVpcAttributeInput{VpcId: ptr(testVPC), EnableDnsHostnames: yes, EnableDnsSupport: yes})
	requireError(t, err, "InvalidParameterCombination", "")
	dns, err := w.ec2.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: ptr(testVPC), Attribute: ec2types.VpcAttributeNameEnableDnsHostnames})
	require.NoError(t, err)
	require.True(t, *dns.EnableDnsHostnames.Value)

	id := w.run("m5.large", testNodes)
	no := &ec2types.AttributeBooleanValue{Value: ptr(false)}
	_, err = w.ec2.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &id, SourceDestCheck: no})
	require.NoError(t, err)
	_, err = w.ec2.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &id, Groups: []string{testGroup}})
	require.NoError(t, err)
	primary := w.cloud.Snapshot().Interfaces[0]
	require.False(t, primary.SourceDestCheck)
	require.Equal(t, []string{testGroup}, primary.Groups)
	groups, err := w.ec2.DescribeNetworkInterfaceAttribute(ctx, &ec2.DescribeNetworkInterfaceAttributeInput{
		NetworkInterfaceId: &primary.ID, Attribute: ec2types.NetworkInterfaceAttributeGroupSet,
	})
	require.NoError(t, err)
	require.Equal(t, testGroup, *groups.Groups[0].GroupId)

	n := w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)})
	w.attach(*n.NetworkInterfaceId, id, 1)
	_, err = w.ec2.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &id, SourceDestCheck: yes})
	requireError(t, err, "InvalidInstanceID", "There are multiple interfaces attached to instance '"+id+"'")
}
