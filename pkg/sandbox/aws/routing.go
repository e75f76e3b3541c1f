// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/netip"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

type routeTable struct {
	id     string
	vpc    *vpc
	routes []route // besides the local ones
	tags   map[string]string
}

type route struct {
	destination netip.Prefix
	target      string // id of an internet gateway, NAT gateway, interface, peering or transit gateway
}

func (r *request) createRouteTable(in *ec2.CreateRouteTableInput) (*ec2.CreateRouteTableOutput, error) {
	v, err := r.vpcs.one(kindVPC, "vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeRouteTable)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	t := &routeTable{id: r.ids.next("rtb"), vpc: v, tags: tags}
	r.routeTables.add(t.id, t)
	description := r.describeRouteTable(t)
	return &ec2.CreateRouteTableOutput{RouteTable: &description}, nil
}

func (r *request) associateRouteTable(in *ec2.AssociateRouteTableInput) (*ec2.AssociateRouteTableOutput, error) {
	t, err := r.routeTables.one(kindRouteTable, "routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	s, err := r.subnet("subnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	if s.vpc != t.vpc {
		return nil, clientError("InvalidParameterValue", "route table %s and subnet %s belong to different networks", t.id, s.id)
	}
	if s.table != nil {
		return nil, clientError("Resource.AlreadyAssociated", "the specified association for route table %s conflicts with an existing association", t.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	s.table, s.association = t, r.ids.next("rtbassoc")
	return &ec2.AssociateRouteTableOutput{AssociationId: &s.association, AssociationState: associatedState()}, nil
}

func associatedState() *ec2types.RouteTableAssociationState {
	return &ec2types.RouteTableAssociationState{State: ec2types.RouteTableAssociationStateCodeAssociated}
}

func (r *request) createRoute(in *ec2.CreateRouteInput) (*ec2.CreateRouteOutput, error) {
	t, err := r.routeTables.one(kindRouteTable, "routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	destination, err := netip.ParsePrefix(awssdk.ToString(in.DestinationCidrBlock))
	if err != nil || !destination.Addr().Is4() {
		return nil, invalidValue(awssdk.ToString(in.DestinationCidrBlock), "destinationCidrBlock")
	}
	destination = destination.Masked()
	target, err := r.routeTarget(t, in)
	if err != nil {
		return nil, err
	}
	sameDestination := func(other route) bool { return other.destination == destination }
	if slices.ContainsFunc(t.routes, sameDestination) || slices.Contains(t.vpc.associated(), destination) {
		return nil, clientError("RouteAlreadyExists", "The route identified by %s already exists.", destination)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	t.routes = append(t.routes, route{destination: destination, target: target})
	return &ec2.CreateRouteOutput{Return: awssdk.Bool(true)}, nil
}

func (r *request) routeTarget(t *routeTable, in *ec2.CreateRouteInput) (string, error) {
	var targets []string
	for _, id := range []*string{in.GatewayId, in.NatGatewayId, in.NetworkInterfaceId, in.VpcPeeringConnectionId, in.TransitGatewayId} {
		if id != nil {
			targets = append(targets, *id)
		}
	}
	if len(targets) == 0 {
		return "", missingParameter("gatewayId")
	}
	if len(targets) > 1 {
		return "", clientError("InvalidParameterCombination", "A route must have exactly one target")
	}
	var of *vpc
	switch {
	case in.GatewayId != nil:
		g, err := r.gateways.one(kindGateway, "gatewayId", in.GatewayId)
		if err != nil {
			return "", err
		}
		of = g.vpc
	case in.NatGatewayId != nil:
		g, err := r.natGateways.one(kindNAT, "natGatewayId", in.NatGatewayId)
		if err != nil {
			return "", err
		}
		of = g.subnet.vpc
	case in.VpcPeeringConnectionId != nil:
		p, err := r.peerings.one(kindPeering, "vpcPeeringConnectionId", in.VpcPeeringConnectionId)
		if err != nil {
			return "", err
		}
		if p.joins(t.vpc) {
			of = t.vpc
		}
	case in.TransitGatewayId != nil:
		// EC2 does not know a gateway that the VPC is not attached to.
		if !r.attached(t.vpc, *in.TransitGatewayId) {
			return "", kindTransitGateway.missing(*in.TransitGatewayId)
		}
		of = t.vpc
	default:
		n, err := r.interfaces.one(kindInterface, "networkInterfaceId", in.NetworkInterfaceId)
		if err != nil {
			return "", err
		}
		of = n.subnet.vpc
	}
	if of != t.vpc {
		return "", clientError("InvalidParameterValue", "route table %s and network gateway %s belong to different networks", t.id, targets[0])
	}
	return targets[0], nil
}

// attached tells whether the VPC has an attachment to the transit gateway that is there.
func (c *Cloud) attached(v *vpc, gateway string) bool {
	return slices.ContainsFunc(c.transitAttachments.all(), func(a *transitAttachment) bool {
		return a.vpc == v && a.gateway.id == gateway && a.available()
	})
}

// blackhole tells whether the target of a route is gone or cannot pass packets.
func (c *Cloud) blackhole(t *routeTable, target string) bool {
	switch idPrefix(target) {
	case "tgw":
		return !c.attached(t.vpc, target)
	case "igw":
		g := c.gateways.get(target)
		return g == nil || g.vpc == nil
	case "nat":
		g := c.natGateways.get(target)
		return g == nil || g.state != ec2types.NatGatewayStateAvailable
	}
	if idPrefix(target) == "pcx" {
		p := c.peerings.get(target)
		return p == nil || p.state != ec2types.VpcPeeringConnectionStateReasonCodeActive
	}
	n := c.interfaces.get(target)
	return n == nil || n.attachment == nil
}

func (r *request) describeRouteTables(in *ec2.DescribeRouteTablesInput) (*ec2.DescribeRouteTablesOutput, error) {
	tables, err := r.routeTables.pick(kindRouteTable, in.RouteTableIds)
	if err != nil {
		return nil, err
	}
	of := func(t *routeTable) attributes {
		d := r.describeRouteTable(t)
		return attributes(func(name string) (values []string, ok bool) {
			switch name {
			case "route-table-id":
				return []string{t.id}, true
			case "vpc-id":
				return []string{t.vpc.id}, true
			case "owner-id":
				return []string{r.account}, true
			case "association.subnet-id", "association.route-table-association-id", "association.route-table-id":
				for _, a := range d.Associations {
					field := map[string]*string{
						"association.subnet-id": a.SubnetId, "association.route-table-association-id": a.RouteTableAssociationId,
						"association.route-table-id": a.RouteTableId,
					}[name]
					if field != nil {
						values = append(values, *field)
					}
				}
				return values, true
			case "association.main":
				if t.vpc.mainTable == t {
					return []string{"true"}, true
				}
				return []string{"false"}, true
			case "route.nat-gateway-id", "route.gateway-id", "route.destination-cidr-block":
				for _, route := range d.Routes {
					field := map[string]*string{
						"route.nat-gateway-id": route.NatGatewayId, "route.gateway-id": route.GatewayId,
						"route.destination-cidr-block": route.DestinationCidrBlock,
					}[name]
					if field != nil {
						values = append(values, *field)
					}
				}
				return values, true
			}
			return nil, false
		}).with(t.tags)
	}
	described, next, err := filterPage(tables, in.Filters, of, r.describeRouteTable, in.NextToken, in.MaxResults, 5, 100)
	return &ec2.DescribeRouteTablesOutput{RouteTables: described, NextToken: next}, err
}

func (r *request) describeRouteTable(t *routeTable) ec2types.RouteTable {
	d := ec2types.RouteTable{RouteTableId: &t.id, VpcId: &t.vpc.id, OwnerId: &r.account, Tags: tagList(t.tags)}
	for _, cidr := range t.vpc.associated() {
		d.Routes = append(d.Routes, ec2types.Route{
			DestinationCidrBlock: awssdk.String(cidr.String()), GatewayId: awssdk.String("local"),
			State: ec2types.RouteStateActive, Origin: ec2types.RouteOriginCreateRouteTable,
		})
	}
	for _, route := range t.routes {
		target := awssdk.String(route.target)
		described := ec2types.Route{
			DestinationCidrBlock: awssdk.String(route.destination.String()), State: ec2types.RouteStateActive, Origin: ec2types.RouteOriginCreateRoute,
		}
		switch idPrefix(route.target) {
		case "igw":
			described.GatewayId = target
		case "nat":
			described.NatGatewayId = target
		case "pcx":
			described.VpcPeeringConnectionId = target
		case "tgw":
			described.TransitGatewayId = target
		default:
			described.NetworkInterfaceId = target
		}
		if r.blackhole(t, route.target) {
			described.State = ec2types.RouteStateBlackhole
		}
		d.Routes = append(d.Routes, described)
	}
	if t.vpc.mainTable == t {
		d.Associations = append(d.Associations, ec2types.RouteTableAssociation{
			Main: awssdk.Bool(true), RouteTableId: &t.id, RouteTableAssociationId: &t.vpc.mainAssociation, AssociationState: associatedState(),
		})
	}
	for _, s := range r.subnets.all() {
		if s.table == t {
			d.Associations = append(d.Associations, ec2types.RouteTableAssociation{
				Main: awssdk.Bool(false), RouteTableId: &t.id, SubnetId: &s.id, RouteTableAssociationId: &s.association, AssociationState: associatedState(),
			})
		}
	}
	return d
}
