// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/netip"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// findRoute returns the index of the route to a destination, -1 when there is none.
func (t *routeTable) findRoute(text *string) (netip.Prefix, int, error) {
	destination, err := netip.ParsePrefix(awssdk.ToString(text))
	if err != nil || !destination.Addr().Is4() {
		return destination, -1, invalidValue(awssdk.ToString(text), "destinationCidrBlock")
	}
	destination = destination.Masked()
	return destination, slices.IndexFunc(t.routes, func(r route) bool { return r.destination == destination }), nil
}

func (r *request) replaceRoute(in *ec2.ReplaceRouteInput) (*ec2.ReplaceRouteOutput, error) {
	t, err := r.routeTables.one(kindRouteTable, "routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	destination, at, err := t.findRoute(in.DestinationCidrBlock)
	if err != nil {
		return nil, err
	}
	target, err := r.routeTarget(t, &ec2.CreateRouteInput{
		GatewayId: in.GatewayId, NatGatewayId: in.NatGatewayId, NetworkInterfaceId: in.NetworkInterfaceId,
		VpcPeeringConnectionId: in.VpcPeeringConnectionId, TransitGatewayId: in.TransitGatewayId,
	})
	if err != nil {
		return nil, err
	}
	if at < 0 {
		return nil, clientError("InvalidParameterValue", "There is no route defined for '%s' in the route table. Use CreateRoute instead.", destination)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	t.routes[at].target = target
	return &ec2.ReplaceRouteOutput{}, nil
}

func (r *request) deleteRoute(in *ec2.DeleteRouteInput) (*ec2.DeleteRouteOutput, error) {
	t, err := r.routeTables.one(kindRouteTable, "routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	destination, at, err := t.findRoute(in.DestinationCidrBlock)
	if err != nil {
		return nil, err
	}
	if slices.Contains(t.vpc.associated(), destination) {
		return nil, clientError("InvalidParameterValue", "cannot remove local route %s in route table %s", destination, t.id)
	}
	if at < 0 {
		return nil, clientError("InvalidRoute.NotFound", "no route with destination-cidr-block %s in route table %s", destination, t.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	t.routes = slices.Delete(t.routes, at, at+1)
	return &ec2.DeleteRouteOutput{}, nil
}

func (r *request) deleteRouteTable(in *ec2.DeleteRouteTableInput) (*ec2.DeleteRouteTableOutput, error) {
	t, err := r.routeTables.one(kindRouteTable, "routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	associated := slices.ContainsFunc(r.subnets.all(), func(s *subnet) bool { return s.table == t })
	if associated || t.vpc.mainTable == t {
		return nil, errDependencies("routeTable", t.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	r.routeTables.remove(t.id)
	return &ec2.DeleteRouteTableOutput{}, nil
}

// association finds what an association id is of: a subnet, or a VPC whose main table it is.
func (r *request) association(id *string) (*subnet, *vpc, error) {
	if awssdk.ToString(id) == "" {
		return nil, nil, missingParameter("associationId")
	}
	for _, s := range r.subnets.all() {
		if s.table != nil && s.association == *id {
			return s, s.vpc, nil
		}
	}
	for _, v := range r.vpcs.all() {
		if v.mainAssociation == *id {
			return nil, v, nil
		}
	}
	return nil, nil, kindAssociation.missing(*id)
}

func (r *request) disassociateRouteTable(in *ec2.DisassociateRouteTableInput) (*ec2.DisassociateRouteTableOutput, error) {
	s, _, err := r.association(in.AssociationId)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, clientError("InvalidParameterValue", "cannot disassociate the main route table association %s", *in.AssociationId)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	s.table, s.association = nil, ""
	return &ec2.DisassociateRouteTableOutput{}, nil
}

// replaceAssociation gives a subnet another table at once, or a VPC another main table.
func (r *request) replaceAssociation(in *ec2.ReplaceRouteTableAssociationInput) (*ec2.ReplaceRouteTableAssociationOutput, error) {
	s, v, err := r.association(in.AssociationId)
	if err != nil {
		return nil, err
	}
	t, err := r.routeTables.one(kindRouteTable, "routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	if t.vpc != v {
		return nil, clientError("InvalidParameterValue", "route table %s and association %s belong to different networks", t.id, *in.AssociationId)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	id := r.ids.next("rtbassoc")
	if s != nil {
		s.table, s.association = t, id
	} else {
		v.mainTable, v.mainAssociation = t, id
	}
	return &ec2.ReplaceRouteTableAssociationOutput{NewAssociationId: &id, AssociationState: associatedState()}, nil
}
