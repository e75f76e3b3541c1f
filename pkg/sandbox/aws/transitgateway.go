// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// transitGateway joins VPCs by tables of its own. Packets do not pass it here: a VPC's route to one swallows them.
type transitGateway struct {
	id, description string
	state           ec2types.TransitGatewayState
	// associates and propagates: an attachment comes with an association to the default table, and its routes go there.
	associates, propagates bool
	defaultTable           *transitTable // nil where it does neither
	created                time.Time
	tags                   map[string]string
}

func (r *request) createTransitGateway(in *ec2.CreateTransitGatewayInput) (*ec2.CreateTransitGatewayOutput, error) {
	g := &transitGateway{description: awssdk.ToString(in.Description), state: ec2types.TransitGatewayStatePending, associates: true, propagates: true, created: r.now}
	if in.Options != nil {
		switch in.Options.DefaultRouteTableAssociation {
		case "", ec2types.DefaultRouteTableAssociationValueEnable:
		case ec2types.DefaultRouteTableAssociationValueDisable:
			g.associates = false
		default:
			return nil, invalidValue(string(in.Options.DefaultRouteTableAssociation), "defaultRouteTableAssociation")
		}
		switch in.Options.DefaultRouteTablePropagation {
		case "", ec2types.DefaultRouteTablePropagationValueEnable:
		case ec2types.DefaultRouteTablePropagationValueDisable:
			g.propagates = false
		default:
			return nil, invalidValue(string(in.Options.DefaultRouteTablePropagation), "defaultRouteTablePropagation")
		}
	}
	var err error
	if g.tags, err = tagsFor(in.TagSpecifications, ec2types.ResourceTypeTransitGateway); err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	g.id = r.ids.next("tgw")
	r.transitGateways.add(g.id, g)
	if g.associates || g.propagates {
		g.defaultTable = r.newTransitTable(g, r.ids.implicit("tgw-rtb"), map[string]string{})
	}
	description := r.describeTransitGateway(g)
	r.after(r.latency.Associate, func() {
		if g.state == ec2types.TransitGatewayStatePending {
			g.state = ec2types.TransitGatewayStateAvailable
		}
	})
	return &ec2.CreateTransitGatewayOutput{TransitGateway: &description}, nil
}

// availableGateway is one that can be changed.
func (r *request) availableGateway(id *string) (*transitGateway, error) {
	g, err := r.transitGateways.one(kindTransitGateway, "TransitGatewayId", id)
	if err != nil {
		return nil, err
	}
	if g.state != ec2types.TransitGatewayStateAvailable {
		return nil, clientError("IncorrectState", "%s is in invalid state", g.id)
	}
	return g, nil
}

// deleteTransitGateway takes its tables with it, and refuses while a VPC is attached.
func (r *request) deleteTransitGateway(in *ec2.DeleteTransitGatewayInput) (*ec2.DeleteTransitGatewayOutput, error) {
	g, err := r.availableGateway(in.TransitGatewayId)
	if err != nil {
		return nil, err
	}
	for _, a := range r.transitAttachments.all() {
		if a.gateway == g && a.state != ec2types.TransitGatewayAttachmentStateDeleted {
			return nil, clientError("IncorrectState", "%s has non-deleted VPC Attachments: %s.", g.id, a.id)
		}
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	g.state = ec2types.TransitGatewayStateDeleting
	description := r.describeTransitGateway(g)
	r.after(r.latency.Associate, func() {
		g.state = ec2types.TransitGatewayStateDeleted
		for _, t := range r.transitTables.all() {
			if t.gateway == g {
				r.transitTables.remove(t.id)
			}
		}
		r.after(Span{Min: r.latency.Terminated}, func() { r.transitGateways.remove(g.id) })
	})
	return &ec2.DeleteTransitGatewayOutput{TransitGateway: &description}, nil
}

func (r *request) describeTransitGateways(in *ec2.DescribeTransitGatewaysInput) (*ec2.DescribeTransitGatewaysOutput, error) {
	gateways, err := r.transitGateways.pick(kindTransitGateway, in.TransitGatewayIds)
	if err != nil {
		return nil, err
	}
	of := func(g *transitGateway) attributes {
		return attributes(func(name string) ([]string, bool) {
			switch name {
			case "transit-gateway-id":
				return []string{g.id}, true
			case "owner-id":
				return []string{r.account}, true
			case "state":
				return []string{string(g.state)}, true
			}
			return nil, false
		}).with(g.tags)
	}
	described, next, err := filterPage(gateways, in.Filters, of, r.describeTransitGateway, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeTransitGatewaysOutput{TransitGateways: described, NextToken: next}, err
}

func (r *request) describeTransitGateway(g *transitGateway) ec2types.TransitGateway {
	options := &ec2types.TransitGatewayOptions{
		AmazonSideAsn: awssdk.Int64(64512), AutoAcceptSharedAttachments: ec2types.AutoAcceptSharedAttachmentsValueDisable,
		DefaultRouteTableAssociation: ec2types.DefaultRouteTableAssociationValueDisable, DefaultRouteTablePropagation: ec2types.DefaultRouteTablePropagationValueDisable,
		DnsSupport: ec2types.DnsSupportValueEnable, MulticastSupport: ec2types.MulticastSupportValueDisable, VpnEcmpSupport: ec2types.VpnEcmpSupportValueEnable,
		SecurityGroupReferencingSupport: ec2types.SecurityGroupReferencingSupportValueDisable,
	}
	if g.associates {
		options.DefaultRouteTableAssociation, options.AssociationDefaultRouteTableId = ec2types.DefaultRouteTableAssociationValueEnable, &g.defaultTable.id
	}
	if g.propagates {
		options.DefaultRouteTablePropagation, options.PropagationDefaultRouteTableId = ec2types.DefaultRouteTablePropagationValueEnable, &g.defaultTable.id
	}
	return ec2types.TransitGateway{
		TransitGatewayId: &g.id, TransitGatewayArn: awssdk.String(r.arn("ec2", "transit-gateway/"+g.id)), Description: &g.description, State: g.state, OwnerId: &r.account,
		CreationTime: &g.created, Options: options, Tags: tagList(g.tags),
	}
}
