// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// transitAttachment is a VPC's.
type transitAttachment struct {
	id         string
	gateway    *transitGateway
	vpc        *vpc
	interfaces []*networkInterface // one a subnet
	state      ec2types.TransitGatewayAttachmentState
	table      *transitTable // that it is associated with, nil for none
	created    time.Time
	tags       map[string]string
}

func (a *transitAttachment) available() bool {
	return a.state == ec2types.TransitGatewayAttachmentStateAvailable
}

// attribute for filters, of those that both ways to describe an attachment know.
func (a *transitAttachment) attribute(name string) ([]string, bool) {
	switch name {
	case "transit-gateway-attachment-id":
		return []string{a.id}, true
	case "transit-gateway-id":
		return []string{a.gateway.id}, true
	case "state":
		return []string{string(a.state)}, true
	}
	return nil, false
}

func (a *transitAttachment) over() bool {
	return a.state == ec2types.TransitGatewayAttachmentStateDeleting || a.state == ec2types.TransitGatewayAttachmentStateDeleted
}

// kindOfTransit is the type of the interfaces in the subnets of an attachment.
const kindOfTransit = ec2types.NetworkInterfaceTypeTransitGateway

// createTransitAttachment takes an address of each subnet, of which there may be one a zone.
func (r *request) createTransitAttachment(in *ec2.CreateTransitGatewayVpcAttachmentInput) (*ec2.CreateTransitGatewayVpcAttachmentOutput, error) {
	g, err := r.availableGateway(in.TransitGatewayId)
	if err != nil {
		return nil, err
	}
	v, err := r.vpcs.one(kindVPC, "VpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	if len(in.SubnetIds) == 0 {
		return nil, missingParameter("SubnetIds")
	}
	subnets, zones := make([]*subnet, 0, len(in.SubnetIds)), map[string]bool{}
	for i := range in.SubnetIds {
		s, err := r.subnet("SubnetIds", &in.SubnetIds[i])
		if err != nil {
			return nil, err
		}
		if s.vpc != v {
			return nil, clientError("InvalidParameterValue", "Subnet %s is not in VPC %s", s.id, v.id)
		}
		if zones[s.zone] {
			return nil, clientError("DuplicateSubnetsInSameZone", "Duplicate Subnets for same AZ")
		}
		if s.space.free() == 0 {
			return nil, errSubnetAddresses
		}
		zones[s.zone], subnets = true, append(subnets, s)
	}
	for _, a := range r.transitAttachments.all() {
		if a.gateway == g && a.vpc == v && !a.over() {
			return nil, clientError("DuplicateTransitGatewayAttachment", "%s has non-deleted Transit Gateway Attachments with same VPC ID.", g.id)
		}
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeTransitGatewayAttachment)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	a := &transitAttachment{id: r.ids.next("tgw-attach"), gateway: g, vpc: v, state: ec2types.TransitGatewayAttachmentStatePending, created: r.now, tags: tags}
	for _, s := range subnets {
		n, err := r.allocate(interfaceSpec{
			id: r.ids.implicit("eni"), subnet: s, kind: kindOfTransit, description: "Network Interface for Transit Gateway Attachment " + a.id, tags: map[string]string{},
		})
		if err != nil {
			return nil, err
		}
		n.sourceDestCheck = false
		r.attachToService(n, "amazon-aws")
		a.interfaces = append(a.interfaces, n)
	}
	r.transitAttachments.add(a.id, a)
	description := r.describeTransitVPCAttachment(a)
	r.after(r.latency.Associate, func() {
		if a.state != ec2types.TransitGatewayAttachmentStatePending {
			return
		}
		a.state = ec2types.TransitGatewayAttachmentStateAvailable
		if g.associates {
			a.table = g.defaultTable
		}
		if g.propagates {
			g.defaultTable.propagating = append(g.defaultTable.propagating, a)
		}
	})
	return &ec2.CreateTransitGatewayVpcAttachmentOutput{TransitGatewayVpcAttachment: &description}, nil
}

// availableAttachment is one that can be associated and routed to.
func (r *request) availableAttachment(id *string) (*transitAttachment, error) {
	a, err := r.transitAttachments.one(kindTransitAttachment, "TransitGatewayAttachmentId", id)
	if err != nil {
		return nil, err
	}
	if !a.available() {
		return nil, clientError("IncorrectState", "%s is in invalid state", a.id)
	}
	return a, nil
}

// deleteTransitAttachment leaves static routes to it as blackholes.
func (r *request) deleteTransitAttachment(in *ec2.DeleteTransitGatewayVpcAttachmentInput) (*ec2.DeleteTransitGatewayVpcAttachmentOutput, error) {
	a, err := r.availableAttachment(in.TransitGatewayAttachmentId)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	a.state, a.table = ec2types.TransitGatewayAttachmentStateDeleting, nil
	for _, t := range r.transitTables.all() {
		t.propagating = slices.DeleteFunc(t.propagating, func(other *transitAttachment) bool { return other == a })
	}
	description := r.describeTransitVPCAttachment(a)
	r.after(r.latency.Associate, func() {
		a.state = ec2types.TransitGatewayAttachmentStateDeleted
		for _, n := range a.interfaces {
			r.free(n)
		}
		r.after(Span{Min: r.latency.Terminated}, func() { r.transitAttachments.remove(a.id) })
	})
	return &ec2.DeleteTransitGatewayVpcAttachmentOutput{TransitGatewayVpcAttachment: &description}, nil
}

func (r *request) describeTransitVPCAttachments(in *ec2.DescribeTransitGatewayVpcAttachmentsInput) (*ec2.DescribeTransitGatewayVpcAttachmentsOutput, error) {
	attachments, err := r.transitAttachments.pick(kindTransitAttachment, in.TransitGatewayAttachmentIds)
	if err != nil {
		return nil, err
	}
	of := func(a *transitAttachment) attributes {
		return func(name string) ([]string, bool) {
			switch name {
			case "vpc-id":
				return []string{a.vpc.id}, true
			}
			return a.attribute(name)
		}
	}
	described, next, err := filterPage(attachments, in.Filters, of, r.describeTransitVPCAttachment, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeTransitGatewayVpcAttachmentsOutput{TransitGatewayVpcAttachments: described, NextToken: next}, err
}

func (r *request) describeTransitVPCAttachment(a *transitAttachment) ec2types.TransitGatewayVpcAttachment {
	d := ec2types.TransitGatewayVpcAttachment{
		TransitGatewayAttachmentId: &a.id, TransitGatewayId: &a.gateway.id, VpcId: &a.vpc.id, VpcOwnerId: &r.account, State: a.state, CreationTime: &a.created, Tags: tagList(a.tags),
		Options: &ec2types.TransitGatewayVpcAttachmentOptions{
			ApplianceModeSupport: ec2types.ApplianceModeSupportValueDisable, DnsSupport: ec2types.DnsSupportValueEnable, Ipv6Support: ec2types.Ipv6SupportValueDisable,
			SecurityGroupReferencingSupport: ec2types.SecurityGroupReferencingSupportValueEnable,
		},
	}
	for _, n := range a.interfaces {
		d.SubnetIds = append(d.SubnetIds, n.subnet.id)
	}
	return d
}

func (r *request) describeTransitAttachments(in *ec2.DescribeTransitGatewayAttachmentsInput) (*ec2.DescribeTransitGatewayAttachmentsOutput, error) {
	attachments, err := r.transitAttachments.pick(kindTransitAttachment, in.TransitGatewayAttachmentIds)
	if err != nil {
		return nil, err
	}
	of := func(a *transitAttachment) attributes {
		return func(name string) ([]string, bool) {
			switch name {
			case "transit-gateway-owner-id", "resource-owner-id":
				return []string{r.account}, true
			case "resource-id":
				return []string{a.vpc.id}, true
			case "resource-type":
				return []string{string(ec2types.TransitGatewayAttachmentResourceTypeVpc)}, true
			case "association.transit-gateway-route-table-id":
				if a.table == nil {
					return nil, true
				}
				return []string{a.table.id}, true
			}
			return a.attribute(name)
		}
	}
	described, next, err := filterPage(attachments, in.Filters, of, r.describeTransitAttachment, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeTransitGatewayAttachmentsOutput{TransitGatewayAttachments: described, NextToken: next}, err
}

func (r *request) describeTransitAttachment(a *transitAttachment) ec2types.TransitGatewayAttachment {
	d := ec2types.TransitGatewayAttachment{
		TransitGatewayAttachmentId: &a.id, TransitGatewayId: &a.gateway.id, TransitGatewayOwnerId: &r.account, ResourceId: &a.vpc.id, ResourceOwnerId: &r.account,
		ResourceType: ec2types.TransitGatewayAttachmentResourceTypeVpc, State: a.state, CreationTime: &a.created, Tags: tagList(a.tags),
	}
	if a.table != nil {
		d.Association = &ec2types.TransitGatewayAttachmentAssociation{State: ec2types.TransitGatewayAssociationStateAssociated, TransitGatewayRouteTableId: &a.table.id}
	}
	return d
}
