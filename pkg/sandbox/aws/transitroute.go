// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/netip"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// transitRoute of a transit gateway's table.
type transitRoute struct {
	destination netip.Prefix
	to          *transitAttachment // nil: a blackhole
	propagated  bool
}

func (t transitRoute) state() ec2types.TransitGatewayRouteState {
	if t.to == nil || !t.to.available() {
		return ec2types.TransitGatewayRouteStateBlackhole
	}
	return ec2types.TransitGatewayRouteStateActive
}

// routes of a table as EC2 evaluates them: of one destination the static route wins, and among VPCs with the same block the first to
// propagate it ("Transit gateways do not support routing between VPCs with identical CIDRs", Amazon VPC Transit Gateways).
func (t *transitTable) routes() []transitRoute {
	all := slices.Clone(t.static)
	for _, a := range t.propagating {
		for _, cidr := range a.vpc.associated() {
			if !slices.ContainsFunc(all, func(other transitRoute) bool { return other.destination == cidr }) {
				all = append(all, transitRoute{destination: cidr, to: a, propagated: true})
			}
		}
	}
	return all
}

func (r *request) createTransitRoute(in *ec2.CreateTransitGatewayRouteInput) (*ec2.CreateTransitGatewayRouteOutput, error) {
	t, err := r.transitTable(in.TransitGatewayRouteTableId)
	if err != nil {
		return nil, err
	}
	destination, err := netip.ParsePrefix(awssdk.ToString(in.DestinationCidrBlock))
	if err != nil || !destination.Addr().Is4() {
		return nil, invalidValue(awssdk.ToString(in.DestinationCidrBlock), "DestinationCidrBlock")
	}
	route := transitRoute{destination: destination.Masked()}
	switch blackhole := awssdk.ToBool(in.Blackhole); {
	case blackhole && in.TransitGatewayAttachmentId != nil:
		return nil, clientError("InvalidParameterCombination", "You cannot specify both an attachment and a blackhole")
	case !blackhole:
		if _, route.to, err = r.tableAndAttachment(in.TransitGatewayRouteTableId, in.TransitGatewayAttachmentId); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(t.static, func(other transitRoute) bool { return other.destination == route.destination }) {
		return nil, clientError("RouteAlreadyExists", "The route identified by %s already exists.", route.destination)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	t.static = append(t.static, route)
	description := describeTransitRoute(route)
	return &ec2.CreateTransitGatewayRouteOutput{Route: &description}, nil
}

// searchTransitRoutes needs a filter, as EC2's.
func (r *request) searchTransitRoutes(in *ec2.SearchTransitGatewayRoutesInput) (*ec2.SearchTransitGatewayRoutesOutput, error) {
	t, err := r.transitTable(in.TransitGatewayRouteTableId)
	if err != nil {
		return nil, err
	}
	if len(in.Filters) == 0 {
		return nil, missingParameter("Filters")
	}
	var ranges []rangeFilter
	filters := slices.DeleteFunc(slices.Clone(in.Filters), func(f ec2types.Filter) bool {
		compare, ok := rangeFilters[awssdk.ToString(f.Name)]
		if ok {
			ranges = append(ranges, rangeFilter{compare, f.Values})
		}
		return ok
	})
	routes := t.routes()
	for _, f := range ranges {
		if routes, err = f.keep(routes); err != nil {
			return nil, err
		}
	}
	of := func(route transitRoute) attributes {
		return func(name string) ([]string, bool) {
			switch name {
			case "state":
				return []string{string(route.state())}, true
			case "type":
				return []string{string(typeOfRoute(route))}, true
			case "attachment.transit-gateway-attachment-id", "attachment.resource-id", "attachment.resource-type":
				if route.to == nil {
					return nil, true
				}
				return []string{map[string]string{
					"attachment.transit-gateway-attachment-id": route.to.id, "attachment.resource-id": route.to.vpc.id,
					"attachment.resource-type": string(ec2types.TransitGatewayAttachmentResourceTypeVpc),
				}[name]}, true
			case "route-search.exact-match", "route-search.subnet-of-match", "route-search.supernet-of-match":
				return nil, true // compared above
			}
			return nil, false
		}
	}
	described, next, err := filterPage(routes, filters, of, describeTransitRoute, in.NextToken, in.MaxResults, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &ec2.SearchTransitGatewayRoutesOutput{Routes: described, NextToken: next, AdditionalRoutesAvailable: awssdk.Bool(next != nil)}, nil
}

// rangeFilter compares routes with CIDRs.
type rangeFilter struct {
	compare func(route, wanted netip.Prefix) bool
	values  []string
}

var rangeFilters = map[string]func(route, wanted netip.Prefix) bool{
	"route-search.exact-match":       func(route, wanted netip.Prefix) bool { return route == wanted },
	"route-search.subnet-of-match":   func(route, wanted netip.Prefix) bool { return route.Bits() >= wanted.Bits() && route.Overlaps(wanted) },
	"route-search.supernet-of-match": func(route, wanted netip.Prefix) bool { return route.Bits() <= wanted.Bits() && route.Overlaps(wanted) },
}

func (f rangeFilter) keep(routes []transitRoute) ([]transitRoute, error) {
	var wanted []netip.Prefix
	for _, text := range f.values {
		cidr, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, invalidValue(text, "Filters")
		}
		wanted = append(wanted, cidr.Masked())
	}
	return slices.DeleteFunc(slices.Clone(routes), func(route transitRoute) bool {
		return !slices.ContainsFunc(wanted, func(w netip.Prefix) bool { return f.compare(route.destination, w) })
	}), nil
}

func typeOfRoute(t transitRoute) ec2types.TransitGatewayRouteType {
	if t.propagated {
		return ec2types.TransitGatewayRouteTypePropagated
	}
	return ec2types.TransitGatewayRouteTypeStatic
}

func describeTransitRoute(t transitRoute) ec2types.TransitGatewayRoute {
	d := ec2types.TransitGatewayRoute{DestinationCidrBlock: awssdk.String(t.destination.String()), State: t.state(), Type: typeOfRoute(t)}
	if t.to != nil {
		d.TransitGatewayAttachments = []ec2types.TransitGatewayRouteAttachment{{
			TransitGatewayAttachmentId: &t.to.id, ResourceId: &t.to.vpc.id, ResourceType: ec2types.TransitGatewayAttachmentResourceTypeVpc,
		}}
	}
	return d
}
