// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/ec2read"
	"github.com/dovetail-dev/dovetail/pkg/plan"
)

// transitGateways that the VPC is attached to, with the routes that concern it. A gateway of another account, shared with this one, shows
// its attachments here and not its route tables.
func (s *surveyor) transitGateways(ctx context.Context, api *ec2.Client, vpc *plan.VPC) error {
	attached := []ec2types.Filter{
		ec2read.Filter("resource-id", vpc.ID), ec2read.Filter("resource-type", string(ec2types.TransitGatewayAttachmentResourceTypeVpc)),
		ec2read.Filter("state", string(ec2types.TransitGatewayAttachmentStateAvailable), string(ec2types.TransitGatewayAttachmentStateModifying)),
	}
	for pages := ec2.NewDescribeTransitGatewayAttachmentsPaginator(api, &ec2.DescribeTransitGatewayAttachmentsInput{Filters: attached}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, a := range page.TransitGatewayAttachments {
			gateway := plan.TransitGateway{ID: aws.ToString(a.TransitGatewayId), Attachment: aws.ToString(a.TransitGatewayAttachmentId)}
			if err := s.transitRoutes(ctx, api, &gateway, a); err != nil {
				if owner := aws.ToString(a.TransitGatewayOwnerId); owner != aws.ToString(a.ResourceOwnerId) {
					err = fmt.Errorf("it is of account %s, whose credentials show them: %w", owner, err)
				}
				s.unread("routes of transit gateway "+gateway.ID, "", err)
			}
			vpc.TransitGateways = append(vpc.TransitGateways, gateway)
		}
	}
	return nil
}

// transitRoutes of the tables that the attachment is associated with, and propagated to.
func (s *surveyor) transitRoutes(ctx context.Context, api *ec2.Client, gateway *plan.TransitGateway, a ec2types.TransitGatewayAttachment) (err error) {
	read := map[string][]plan.TransitRoute{}
	routes := func(table string) ([]plan.TransitRoute, error) {
		if known, ok := read[table]; ok {
			return known, nil
		}
		found, err := s.searchRoutes(ctx, api, table, gateway.Attachment)
		read[table] = found
		return found, err
	}
	if a.Association != nil && a.Association.State == ec2types.TransitGatewayAssociationStateAssociated {
		if gateway.Routes, err = routes(aws.ToString(a.Association.TransitGatewayRouteTableId)); err != nil {
			return err
		}
	}
	pages := ec2.NewGetTransitGatewayAttachmentPropagationsPaginator(api, &ec2.GetTransitGatewayAttachmentPropagationsInput{TransitGatewayAttachmentId: &gateway.Attachment})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, p := range page.TransitGatewayAttachmentPropagations {
			if p.State != ec2types.TransitGatewayPropagationStateEnabled {
				continue
			}
			found, err := routes(aws.ToString(p.TransitGatewayRouteTableId))
			if err != nil {
				return err
			}
			gateway.Announced = append(gateway.Announced, found...)
		}
	}
	return nil
}

// routesAtOnce is what EC2 returns of a transit gateway's route table at the most.
const routesAtOnce = 1000

// searchRoutes of a table, but for those to the attachment itself.
func (s *surveyor) searchRoutes(ctx context.Context, api *ec2.Client, table, own string) ([]plan.TransitRoute, error) {
	in := &ec2.SearchTransitGatewayRoutesInput{
		TransitGatewayRouteTableId: &table, Filters: []ec2types.Filter{ec2read.Filter("state", string(ec2types.TransitGatewayRouteStateActive), string(ec2types.TransitGatewayRouteStateBlackhole))},
		MaxResults: aws.Int32(routesAtOnce),
	}
	var found []plan.TransitRoute
	for {
		out, err := api.SearchTransitGatewayRoutes(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, r := range out.Routes {
			if route, ok := transitRouteOf(r, table, own); ok {
				found = append(found, route)
			}
			if id := aws.ToString(r.PrefixListId); id != "" && r.DestinationCidrBlock == nil {
				s.unread("route of "+table+" to prefix list "+id, "", errors.New("its CIDRs are not compared with the pods' ranges"))
			}
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			if aws.ToBool(out.AdditionalRoutesAvailable) {
				s.unread("routes of "+table, "", fmt.Errorf("it has more than the %d that EC2 shows", routesAtOnce))
			}
			return found, nil
		}
	}
}

func transitRouteOf(r ec2types.TransitGatewayRoute, table, own string) (plan.TransitRoute, bool) {
	destination, err := netip.ParsePrefix(aws.ToString(r.DestinationCidrBlock))
	back := lo.ContainsBy(r.TransitGatewayAttachments, func(a ec2types.TransitGatewayRouteAttachment) bool {
		return aws.ToString(a.TransitGatewayAttachmentId) == own
	})
	if err != nil || back {
		return plan.TransitRoute{}, false
	}
	route := plan.TransitRoute{Table: table, Destination: destination, Propagated: r.Type == ec2types.TransitGatewayRouteTypePropagated}
	for _, a := range r.TransitGatewayAttachments {
		route.To = aws.ToString(a.ResourceId)
	}
	return route, true
}
