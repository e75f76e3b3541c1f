// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// peer VPCs: their blocks keep CIDRs from being associated.
func (b *builder) peer(ctx context.Context) error {
	for _, p := range b.shape.Peerings {
		if len(p.CIDRs) == 0 {
			continue
		}
		other, err := b.create(ctx, p.CIDRs)
		if err != nil {
			return fmt.Errorf("%s: %w", p.ID, err)
		}
		out, err := b.ec2.CreateVpcPeeringConnection(ctx, &ec2.CreateVpcPeeringConnectionInput{VpcId: &b.vpc, PeerVpcId: &other})
		if err != nil {
			return fmt.Errorf("%s: %w", p.ID, err)
		}
		b.names[p.ID] = *out.VpcPeeringConnection.VpcPeeringConnectionId
		err = poll(ctx, often, func(ctx context.Context) (bool, error) {
			_, err := b.ec2.AcceptVpcPeeringConnection(ctx, &ec2.AcceptVpcPeeringConnectionInput{VpcPeeringConnectionId: aws.String(b.names[p.ID])})
			return err == nil, ignore(err, "InvalidVpcPeeringConnectionID.NotFound")
		})
		if err != nil {
			return fmt.Errorf("%s: %w", p.ID, err)
		}
	}
	return nil
}

// route tables with their destinations. What is not a peering leads to an internet gateway: nobody sends packets.
func (b *builder) route(ctx context.Context) error {
	gateway, err := b.ec2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})
	if err != nil {
		return err
	}
	internet := gateway.InternetGateway.InternetGatewayId
	if _, err := b.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: internet, VpcId: &b.vpc}); err != nil {
		return err
	}
	tables, err := b.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: filter("vpc-id", b.vpc)})
	if err != nil || len(tables.RouteTables) == 0 {
		return errors.Join(err, errors.New("the new VPC has no main route table"))
	}
	b.main = *tables.RouteTables[0].RouteTableId
	for _, t := range b.shape.RouteTables {
		if err := b.table(ctx, t, internet); err != nil {
			return fmt.Errorf("%s: %w", t.ID, err)
		}
	}
	return nil
}

func (b *builder) table(ctx context.Context, t RouteTable, internet *string) error {
	id := b.main
	if !t.Main {
		out, err := b.ec2.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: &b.vpc})
		if err != nil {
			return err
		}
		id = *out.RouteTable.RouteTableId
	}
	b.names[t.ID] = id
	for _, r := range t.Routes {
		route := &ec2.CreateRouteInput{RouteTableId: &id, DestinationCidrBlock: aws.String(r.Destination.String())}
		if slices.ContainsFunc(b.shape.Peerings, func(p Peering) bool { return p.ID == r.Target && b.names[p.ID] != "" }) {
			route.VpcPeeringConnectionId = aws.String(b.names[r.Target])
		} else {
			route.GatewayId = internet
		}
		if _, err := b.ec2.CreateRoute(ctx, route); err != nil {
			return fmt.Errorf("route to %s: %w", r.Destination, err)
		}
	}
	for _, subnet := range t.Subnets {
		if _, err := b.ec2.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: &id, SubnetId: aws.String(b.names[subnet])}); err != nil {
			return err
		}
	}
	return nil
}
