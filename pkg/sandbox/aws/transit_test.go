// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

func (w *world) transitGateway() ec2types.TransitGateway {
	w.Helper()
	out, err := w.ec2.CreateTransitGateway(w.ctx(), &ec2.CreateTransitGatewayInput{Description: ptr("hub")})
	require.NoError(w, err)
	require.Equal(w, ec2types.TransitGatewayStatePending, out.TransitGateway.State)
	return w.availableTransitGateway(*out.TransitGateway.TransitGatewayId)
}

func (w *world) availableTransitGateway(id string) (found ec2types.TransitGateway) {
	w.await("the transit gateway is available", func(Snapshot) bool {
		described, err := w.ec2.DescribeTransitGateways(w.ctx(), &ec2.DescribeTransitGatewaysInput{TransitGatewayIds: []string{id}})
		require.NoError(w, err)
		found = described.TransitGateways[0]
		return found.State == ec2types.TransitGatewayStateAvailable
	})
	return found
}

func (w *world) attachVPC(gateway, vpc string, subnets ...string) string {
	w.Helper()
	out, err := w.ec2.CreateTransitGatewayVpcAttachment(w.ctx(), &ec2.CreateTransitGatewayVpcAttachmentInput{TransitGatewayId: &gateway, VpcId: &vpc, SubnetIds: subnets})
	require.NoError(w, err)
	require.Equal(w, ec2types.TransitGatewayAttachmentStatePending, out.TransitGatewayVpcAttachment.State)
	id := out.TransitGatewayVpcAttachment.TransitGatewayAttachmentId
	w.await("the attachment is available", func(Snapshot) bool {
		described, err := w.ec2.DescribeTransitGatewayVpcAttachments(w.ctx(), &ec2.DescribeTransitGatewayVpcAttachmentsInput{TransitGatewayAttachmentIds: []string{*id}})
		require.NoError(w, err)
		return described.TransitGatewayVpcAttachments[0].State == ec2types.TransitGatewayAttachmentStateAvailable
	})
	return *id
}

// spoke is another VPC that is attached.
func (w *world) spoke(gateway, cidr string) (vpc, attachment string) {
	w.Helper()
	vpc = w.anotherVPC(cidr)
	subnet, err := w.ec2.CreateSubnet(w.ctx(), &ec2.CreateSubnetInput{VpcId: &vpc, CidrBlock: ptr(cidr[:len(cidr)-3] + "/24"), AvailabilityZone: ptr("us-east-1a")})
	require.NoError(w, err)
	return vpc, w.attachVPC(gateway, vpc, *subnet.Subnet.SubnetId)
}

// transitRoutes of a table: destination, where to, and type or that it is a blackhole.
func (w *world) transitRoutes(table string, filters ...ec2types.Filter) []string {
	w.Helper()
	if filters == nil {
		filters = []ec2types.Filter{{Name: ptr("state"), Values: []string{"active", "blackhole"}}}
	}
	out, err := w.ec2.SearchTransitGatewayRoutes(w.ctx(), &ec2.SearchTransitGatewayRoutesInput{TransitGatewayRouteTableId: &table, Filters: filters})
	require.NoError(w, err)
	var routes []string
	for _, r := range out.Routes {
		text := *r.DestinationCidrBlock
		for _, a := range r.TransitGatewayAttachments {
			text += " " + *a.ResourceId
		}
		routes = append(routes, text+" "+string(r.Type)+" "+string(r.State))
	}
	return routes
}

func TestAVPCIsAttachedToATransitGatewayAndRoutedTo(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	gateway := w.transitGateway()
	id, table := *gateway.TransitGatewayId, *gateway.Options.AssociationDefaultRouteTableId
	require.Equal(t, table, *gateway.Options.PropagationDefaultRouteTableId)
	_, err := w.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &w.cloud.Snapshot().RouteTables[0].ID, DestinationCidrBlock: ptr("172.16.0.0/12"), TransitGatewayId: &id})
	requireError(t, err, "InvalidTransitGatewayID.NotFound", id)

	before := w.free(testNodes)
	own := w.attachVPC(id, testVPC, testNodes, testNodesB)
	require.Equal(t, before-1, w.free(testNodes), "the attachment has an interface there")
	spoke, other := w.spoke(id, "172.16.0.0/16")
	twin, _ := w.spoke(id, "172.16.0.0/16")

	attachments, err := w.ec2.DescribeTransitGatewayAttachments(ctx, &ec2.DescribeTransitGatewayAttachmentsInput{
		Filters: []ec2types.Filter{{Name: ptr("resource-id"), Values: []string{testVPC}}, {Name: ptr("resource-type"), Values: []string{"vpc"}}, {Name: ptr("state"), Values: []string{"available"}}},
	})
	require.NoError(t, err)
	require.Len(t, attachments.TransitGatewayAttachments, 1)
	require.Equal(t, own, *attachments.TransitGatewayAttachments[0].TransitGatewayAttachmentId)
	require.Equal(t, table, *attachments.TransitGatewayAttachments[0].Association.TransitGatewayRouteTableId)
	of, err := w.ec2.DescribeTransitGatewayVpcAttachments(ctx, &ec2.DescribeTransitGatewayVpcAttachmentsInput{Filters: []ec2types.Filter{{Name: ptr("vpc-id"), Values: []string{testVPC}}}})
	require.NoError(t, err)
	require.Equal(t, []string{testNodes, testNodesB}, of.TransitGatewayVpcAttachments[0].SubnetIds)

	require.Equal(t, []string{
		"10.0.0.0/21 " + testVPC + " propagated active", "100.64.0.0/17 " + testVPC + " propagated active", "172.16.0.0/16 " + spoke + " propagated active",
	}, w.transitRoutes(table), "of VPCs with the same block the first is heard: not "+twin)
	_, err = w.ec2.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: ptr(testVPC), CidrBlock: ptr("100.65.0.0/16")})
	require.NoError(t, err)
	w.await("the block is associated", func(s Snapshot) bool { return len(s.VPCs[0].CIDRs) == 3 })
	require.Contains(t, w.transitRoutes(table), "100.65.0.0/16 "+testVPC+" propagated active", "a further block of the VPC is propagated too")

	_, err = w.ec2.CreateTransitGatewayRoute(ctx, &ec2.CreateTransitGatewayRouteInput{TransitGatewayRouteTableId: &table, DestinationCidrBlock: ptr("100.65.0.0/16"), TransitGatewayAttachmentId: &other})
	require.NoError(t, err)
	_, err = w.ec2.CreateTransitGatewayRoute(ctx, &ec2.CreateTransitGatewayRouteInput{TransitGatewayRouteTableId: &table, DestinationCidrBlock: ptr("100.65.0.0/16"), Blackhole: ptr(true)})
	requireError(t, err, "RouteAlreadyExists", "100.65.0.0/16")
	_, err = w.ec2.CreateTransitGatewayRoute(ctx, &ec2.CreateTransitGatewayRouteInput{TransitGatewayRouteTableId: &table, DestinationCidrBlock: ptr("192.168.0.0/16"), Blackhole: ptr(true)})
	require.NoError(t, err)
	require.Equal(t, []string{"100.65.0.0/16 " + spoke + " static active"}, w.transitRoutes(table,
		ec2types.Filter{Name: ptr("route-search.subnet-of-match"), Values: []string{"100.64.0.0/10"}}, ec2types.Filter{Name: ptr("type"), Values: []string{"static"}}), "a static route wins")
	require.Equal(t, []string{"192.168.0.0/16 static blackhole"}, w.transitRoutes(table, ec2types.Filter{Name: ptr("route-search.supernet-of-match"), Values: []string{"192.168.1.0/24"}}))
	require.Equal(t, []string{"10.0.0.0/21 " + testVPC + " propagated active"}, w.transitRoutes(table, ec2types.Filter{Name: ptr("route-search.exact-match"), Values: []string{"10.0.0.0/21"}}))
	_, err = w.ec2.SearchTransitGatewayRoutes(ctx, &ec2.SearchTransitGatewayRoutesInput{TransitGatewayRouteTableId: &table})
	require.Error(t, err, "it needs a filter")

	_, err = w.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &w.cloud.Snapshot().RouteTables[0].ID, DestinationCidrBlock: ptr("172.16.0.0/12"), TransitGatewayId: &id})
	require.NoError(t, err)
	_, err = w.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: &spoke})
	requireError(t, err, "DependencyViolation", "")
	_, err = w.ec2.DeleteTransitGateway(ctx, &ec2.DeleteTransitGatewayInput{TransitGatewayId: &id})
	requireError(t, err, "IncorrectState", own)
	_, err = w.ec2.DeleteTransitGatewayVpcAttachment(ctx, &ec2.DeleteTransitGatewayVpcAttachmentInput{TransitGatewayAttachmentId: &own})
	require.NoError(t, err)
	w.await("the attachment's interfaces are gone", func(Snapshot) bool { return w.free(testNodes) == before })
	require.True(t, w.cloud.Snapshot().RouteTables[0].Routes[len(w.cloud.Snapshot().RouteTables[0].Routes)-1].Blackhole)
	require.NotContains(t, w.transitRoutes(table), "10.0.0.0/21 "+testVPC+" propagated active")
}

func TestATransitGatewaysTablesAreAssociatedAndPropagatedTo(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	created, err := w.ec2.CreateTransitGateway(ctx, &ec2.CreateTransitGatewayInput{Options: &ec2types.TransitGatewayRequestOptions{
		DefaultRouteTableAssociation: ec2types.DefaultRouteTableAssociationValueDisable, DefaultRouteTablePropagation: ec2types.DefaultRouteTablePropagationValueDisable,
	}})
	require.NoError(t, err)
	gateway := created.TransitGateway.TransitGatewayId
	w.availableTransitGateway(*gateway)
	own := w.attachVPC(*gateway, testVPC, testNodes)
	tables := make([]string, 2)
	for i := range tables {
		out, err := w.ec2.CreateTransitGatewayRouteTable(ctx, &ec2.CreateTransitGatewayRouteTableInput{TransitGatewayId: gateway})
		require.NoError(t, err)
		tables[i] = *out.TransitGatewayRouteTable.TransitGatewayRouteTableId
	}
	associate := func(table string) error {
		_, err := w.ec2.AssociateTransitGatewayRouteTable(ctx, &ec2.AssociateTransitGatewayRouteTableInput{TransitGatewayRouteTableId: &table, TransitGatewayAttachmentId: &own})
		return err
	}
	require.NoError(t, associate(tables[0]))
	requireError(t, associate(tables[1]), "Resource.AlreadyAssociated", own)
	propagate := func() error {
		_, err := w.ec2.EnableTransitGatewayRouteTablePropagation(ctx, &ec2.EnableTransitGatewayRouteTablePropagationInput{TransitGatewayRouteTableId: &tables[1], TransitGatewayAttachmentId: &own})
		return err
	}
	require.NoError(t, propagate())
	requireError(t, propagate(), "TransitGatewayRouteTablePropagation.Duplicate", own)
	propagations, err := w.ec2.GetTransitGatewayAttachmentPropagations(ctx, &ec2.GetTransitGatewayAttachmentPropagationsInput{TransitGatewayAttachmentId: &own})
	require.NoError(t, err)
	require.Len(t, propagations.TransitGatewayAttachmentPropagations, 1)
	require.Equal(t, tables[1], *propagations.TransitGatewayAttachmentPropagations[0].TransitGatewayRouteTableId)
	require.Empty(t, w.transitRoutes(tables[0]))
	require.Len(t, w.transitRoutes(tables[1]), 2)

	_, err = w.ec2.DisableTransitGatewayRouteTablePropagation(ctx, &ec2.DisableTransitGatewayRouteTablePropagationInput{TransitGatewayRouteTableId: &tables[1], TransitGatewayAttachmentId: &own})
	require.NoError(t, err)
	require.Empty(t, w.transitRoutes(tables[1]))
	_, err = w.ec2.DisableTransitGatewayRouteTablePropagation(ctx, &ec2.DisableTransitGatewayRouteTablePropagationInput{TransitGatewayRouteTableId: &tables[1], TransitGatewayAttachmentId: &own})
	requireError(t, err, "TransitGatewayRouteTablePropagation.NotFound", own)
	_, err = w.ec2.DisassociateTransitGatewayRouteTable(ctx, &ec2.DisassociateTransitGatewayRouteTableInput{TransitGatewayRouteTableId: &tables[0], TransitGatewayAttachmentId: &own})
	require.NoError(t, err)
	_, err = w.ec2.DisassociateTransitGatewayRouteTable(ctx, &ec2.DisassociateTransitGatewayRouteTableInput{TransitGatewayRouteTableId: &tables[0], TransitGatewayAttachmentId: &own})
	requireError(t, err, "InvalidAssociation.NotFound", own)
	described, err := w.ec2.DescribeTransitGatewayRouteTables(ctx, &ec2.DescribeTransitGatewayRouteTablesInput{Filters: []ec2types.Filter{{Name: ptr("transit-gateway-id"), Values: []string{*gateway}}}})
	require.NoError(t, err)
	require.Len(t, described.TransitGatewayRouteTables, 2)
}

func TestWhatATransitGatewayRefuses(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	gateway := w.transitGateway()
	attach := func(gateway, vpc string, subnets ...string) error {
		_, err := w.ec2.CreateTransitGatewayVpcAttachment(ctx, &ec2.CreateTransitGatewayVpcAttachmentInput{TransitGatewayId: &gateway, VpcId: &vpc, SubnetIds: subnets})
		return err
	}
	id := *gateway.TransitGatewayId
	requireError(t, attach("tgw-0123456789abcdef0", testVPC, testNodes), "InvalidTransitGatewayID.NotFound", "tgw-0123456789abcdef0")
	requireError(t, attach("tgw-1", testVPC, testNodes), "InvalidTransitGatewayID.Malformed", "tgw-1")
	requireError(t, attach(id, testVPC, testNodes, testPods), "DuplicateSubnetsInSameZone", "")
	requireError(t, attach(id, w.anotherVPC("172.16.0.0/16"), testNodes), "InvalidParameterValue", testNodes)
	require.NoError(t, attach(id, testVPC, testNodes))
	requireError(t, attach(id, testVPC, testNodesB), "DuplicateTransitGatewayAttachment", id)
	_, err := w.ec2.SearchTransitGatewayRoutes(ctx, &ec2.SearchTransitGatewayRoutesInput{
		TransitGatewayRouteTableId: ptr("tgw-rtb-0123456789abcdef0"), Filters: []ec2types.Filter{{Name: ptr("state"), Values: []string{"active"}}},
	})
	requireError(t, err, "InvalidRouteTableID.NotFound", "tgw-rtb-0123456789abcdef0")
	_, err = w.ec2.CreateTransitGatewayRoute(ctx, &ec2.CreateTransitGatewayRouteInput{
		TransitGatewayRouteTableId: gateway.Options.AssociationDefaultRouteTableId, DestinationCidrBlock: ptr("10.9.0.0/16"), TransitGatewayAttachmentId: ptr("tgw-attach-0123456789abcdef0"),
	})
	requireError(t, err, "InvalidTransitGatewayAttachmentID.NotFound", "tgw-attach-0123456789abcdef0")

	slow := immediate()
	slow.Associate = Span{Min: 1 << 40, Max: 1 << 40}
	w = newAccount(t, slow)
	created, err := w.ec2.CreateTransitGateway(ctx, &ec2.CreateTransitGatewayInput{})
	require.NoError(t, err)
	vpc := w.anotherVPC("10.0.0.0/16")
	subnet, err := w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &vpc, CidrBlock: ptr("10.0.0.0/24"), AvailabilityZone: ptr("us-east-1a")})
	require.NoError(t, err)
	_, err = w.ec2.CreateTransitGatewayVpcAttachment(ctx, &ec2.CreateTransitGatewayVpcAttachmentInput{TransitGatewayId: created.TransitGateway.TransitGatewayId, VpcId: &vpc, SubnetIds: []string{*subnet.Subnet.SubnetId}})
	requireError(t, err, "IncorrectState", *created.TransitGateway.TransitGatewayId)
}
