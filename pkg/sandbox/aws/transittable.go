// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// transitTable is a route table of a transit gateway.
type transitTable struct {
	id      string
	gateway *transitGateway
	static  []transitRoute
	// propagating attachments, the oldest propagation first.
	propagating []*transitAttachment
	created     time.Time
	tags        map[string]string
}

func (r *request) newTransitTable(g *transitGateway, id string, tags map[string]string) *transitTable {
	t := &transitTable{id: id, gateway: g, created: r.now, tags: tags}
	r.transitTables.add(t.id, t)
	return t
}

func (r *request) createTransitTable(in *ec2.CreateTransitGatewayRouteTableInput) (*ec2.CreateTransitGatewayRouteTableOutput, error) {
	g, err := r.availableGateway(in.TransitGatewayId)
	if err != nil {
		return nil, err
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeTransitGatewayRouteTable)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	description := r.describeTransitTable(r.newTransitTable(g, r.ids.next("tgw-rtb"), tags))
	return &ec2.CreateTransitGatewayRouteTableOutput{TransitGatewayRouteTable: &description}, nil
}

func (r *request) transitTable(id *string) (*transitTable, error) {
	return r.transitTables.one(kindTransitTable, "TransitGatewayRouteTableId", id)
}

func (r *request) describeTransitTables(in *ec2.DescribeTransitGatewayRouteTablesInput) (*ec2.DescribeTransitGatewayRouteTablesOutput, error) {
	tables, err := r.transitTables.pick(kindTransitTable, in.TransitGatewayRouteTableIds)
	if err != nil {
		return nil, err
	}
	truth := map[bool]string{true: "true", false: "false"}
	of := func(t *transitTable) attributes {
		return func(name string) ([]string, bool) {
			switch name {
			case "transit-gateway-route-table-id":
				return []string{t.id}, true
			case "transit-gateway-id":
				return []string{t.gateway.id}, true
			case "state":
				return []string{string(ec2types.TransitGatewayRouteTableStateAvailable)}, true
			case "default-association-route-table":
				return []string{truth[t.defaultAssociation()]}, true
			case "default-propagation-route-table":
				return []string{truth[t.defaultPropagation()]}, true
			}
			return nil, false
		}
	}
	described, next, err := filterPage(tables, in.Filters, of, r.describeTransitTable, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeTransitGatewayRouteTablesOutput{TransitGatewayRouteTables: described, NextToken: next}, err
}

func (t *transitTable) defaultAssociation() bool {
	return t.gateway.defaultTable == t && t.gateway.associates
}

func (t *transitTable) defaultPropagation() bool {
	return t.gateway.defaultTable == t && t.gateway.propagates
}

func (r *request) describeTransitTable(t *transitTable) ec2types.TransitGatewayRouteTable {
	association, propagation := t.defaultAssociation(), t.defaultPropagation()
	return ec2types.TransitGatewayRouteTable{
		TransitGatewayRouteTableId: &t.id, TransitGatewayId: &t.gateway.id, State: ec2types.TransitGatewayRouteTableStateAvailable, CreationTime: &t.created,
		DefaultAssociationRouteTable: &association, DefaultPropagationRouteTable: &propagation, Tags: tagList(t.tags),
	}
}

// tableAndAttachment of one gateway.
func (r *request) tableAndAttachment(table, attachment *string) (*transitTable, *transitAttachment, error) {
	t, err := r.transitTable(table)
	if err != nil {
		return nil, nil, err
	}
	a, err := r.availableAttachment(attachment)
	if err != nil {
		return nil, nil, err
	}
	if a.gateway != t.gateway {
		return nil, nil, clientError("InvalidParameterValue", "%s and %s belong to different transit gateways", t.id, a.id)
	}
	return t, a, nil
}

func (r *request) associateTransitTable(in *ec2.AssociateTransitGatewayRouteTableInput) (*ec2.AssociateTransitGatewayRouteTableOutput, error) {
	t, a, err := r.tableAndAttachment(in.TransitGatewayRouteTableId, in.TransitGatewayAttachmentId)
	if err != nil {
		return nil, err
	}
	if a.table != nil {
		return nil, clientError("Resource.AlreadyAssociated", "Transit Gateway Attachment %s is already associated to a route table.", a.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	a.table = t
	return &ec2.AssociateTransitGatewayRouteTableOutput{Association: transitAssociation(t, a, ec2types.TransitGatewayAssociationStateAssociating)}, nil
}

func (r *request) disassociateTransitTable(in *ec2.DisassociateTransitGatewayRouteTableInput) (*ec2.DisassociateTransitGatewayRouteTableOutput, error) {
	t, a, err := r.tableAndAttachment(in.TransitGatewayRouteTableId, in.TransitGatewayAttachmentId)
	if err != nil {
		return nil, err
	}
	if a.table != t {
		return nil, clientError("InvalidAssociation.NotFound", "Association between %s and %s does not exist", t.id, a.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	a.table = nil
	return &ec2.DisassociateTransitGatewayRouteTableOutput{Association: transitAssociation(t, a, ec2types.TransitGatewayAssociationStateDisassociating)}, nil
}

func transitAssociation(t *transitTable, a *transitAttachment, state ec2types.TransitGatewayAssociationState) *ec2types.TransitGatewayAssociation {
	return &ec2types.TransitGatewayAssociation{
		TransitGatewayAttachmentId: &a.id, TransitGatewayRouteTableId: &t.id, ResourceId: &a.vpc.id, ResourceType: ec2types.TransitGatewayAttachmentResourceTypeVpc, State: state,
	}
}

func (r *request) enablePropagation(in *ec2.EnableTransitGatewayRouteTablePropagationInput) (*ec2.EnableTransitGatewayRouteTablePropagationOutput, error) {
	t, a, err := r.tableAndAttachment(in.TransitGatewayRouteTableId, in.TransitGatewayAttachmentId)
	if err != nil {
		return nil, err
	}
	if slices.Contains(t.propagating, a) {
		return nil, clientError("TransitGatewayRouteTablePropagation.Duplicate", "Propagation %s between %s and %s already exists.", a.vpc.id, a.id, t.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	t.propagating = append(t.propagating, a)
	return &ec2.EnableTransitGatewayRouteTablePropagationOutput{Propagation: transitPropagation(t, a, ec2types.TransitGatewayPropagationStateEnabled)}, nil
}

func (r *request) disablePropagation(in *ec2.DisableTransitGatewayRouteTablePropagationInput) (*ec2.DisableTransitGatewayRouteTablePropagationOutput, error) {
	t, a, err := r.tableAndAttachment(in.TransitGatewayRouteTableId, in.TransitGatewayAttachmentId)
	if err != nil {
		return nil, err
	}
	at := slices.Index(t.propagating, a)
	if at < 0 {
		return nil, clientError("TransitGatewayRouteTablePropagation.NotFound", "Propagation between %s and %s does not exist.", a.id, t.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	t.propagating = slices.Delete(t.propagating, at, at+1)
	return &ec2.DisableTransitGatewayRouteTablePropagationOutput{Propagation: transitPropagation(t, a, ec2types.TransitGatewayPropagationStateDisabled)}, nil
}

func transitPropagation(t *transitTable, a *transitAttachment, state ec2types.TransitGatewayPropagationState) *ec2types.TransitGatewayPropagation {
	return &ec2types.TransitGatewayPropagation{
		TransitGatewayAttachmentId: &a.id, TransitGatewayRouteTableId: &t.id, ResourceId: &a.vpc.id, ResourceType: ec2types.TransitGatewayAttachmentResourceTypeVpc, State: state,
	}
}

func (r *request) getPropagations(in *ec2.GetTransitGatewayAttachmentPropagationsInput) (*ec2.GetTransitGatewayAttachmentPropagationsOutput, error) {
	a, err := r.transitAttachments.one(kindTransitAttachment, "TransitGatewayAttachmentId", in.TransitGatewayAttachmentId)
	if err != nil {
		return nil, err
	}
	tables := slices.DeleteFunc(r.transitTables.all(), func(t *transitTable) bool { return !slices.Contains(t.propagating, a) })
	of := func(t *transitTable) attributes {
		return func(name string) ([]string, bool) {
			if name == "transit-gateway-route-table-id" {
				return []string{t.id}, true
			}
			return nil, false
		}
	}
	describe := func(t *transitTable) ec2types.TransitGatewayAttachmentPropagation {
		return ec2types.TransitGatewayAttachmentPropagation{TransitGatewayRouteTableId: &t.id, State: ec2types.TransitGatewayPropagationStateEnabled}
	}
	described, next, err := filterPage(tables, in.Filters, of, describe, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.GetTransitGatewayAttachmentPropagationsOutput{TransitGatewayAttachmentPropagations: described, NextToken: next}, err
}
