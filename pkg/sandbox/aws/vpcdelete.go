// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// deleteVPC takes the VPC with what came with it: its main route table and its default group.
func (r *request) deleteVPC(in *ec2.DeleteVpcInput) (*ec2.DeleteVpcOutput, error) {
	v, err := r.vpcs.one(kindVPC, "vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	inUse := r.hasGateway(v) ||
		slices.ContainsFunc(r.peerings.all(), func(p *peering) bool { return p.joins(v) && !p.over() }) ||
		slices.ContainsFunc(r.transitAttachments.all(), func(a *transitAttachment) bool {
			return a.vpc == v && a.state != ec2types.TransitGatewayAttachmentStateDeleted
		}) ||
		slices.ContainsFunc(r.subnets.all(), func(s *subnet) bool { return s.vpc == v }) ||
		slices.ContainsFunc(r.groups.all(), func(g *securityGroup) bool { return g.vpc == v && g != v.defaultGroup }) ||
		slices.ContainsFunc(r.routeTables.all(), func(t *routeTable) bool { return t.vpc == v && t != v.mainTable })
	if inUse {
		return nil, errDependencies("vpc", v.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	r.routeTables.remove(v.mainTable.id)
	r.groups.remove(v.defaultGroup.id)
	r.vpcs.remove(v.id)
	return &ec2.DeleteVpcOutput{}, nil
}

// deleteSubnet refuses while anything has an address of the subnet, instances and NAT gateways through their interfaces. Whether
// a CIDR reservation goes with its subnet is not documented; here it must go before.
func (r *request) deleteSubnet(in *ec2.DeleteSubnetInput) (*ec2.DeleteSubnetOutput, error) {
	s, err := r.subnet("subnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	inUse := slices.ContainsFunc(r.interfaces.all(), func(n *networkInterface) bool { return n.subnet == s })
	if inUse || len(s.space.reservations) > 0 {
		return nil, errDependencies("subnet", s.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	r.subnets.remove(s.id)
	return &ec2.DeleteSubnetOutput{}, nil
}

func (r *request) disassociateVPCBlock(in *ec2.DisassociateVpcCidrBlockInput) (*ec2.DisassociateVpcCidrBlockOutput, error) {
	id := awssdk.ToString(in.AssociationId)
	if id == "" {
		return nil, missingParameter("associationId")
	}
	v, b := r.blockByID(id)
	if b == nil {
		return nil, kindBlock.missing(id)
	}
	if b == v.blocks[0] {
		return nil, clientError("OperationNotPermitted",
			"The vpc CIDR block with association ID %s may not be disassociated. It is the primary IPv4 CIDR block of the VPC", id)
	}
	if slices.ContainsFunc(r.subnets.all(), func(s *subnet) bool { return s.vpc == v && b.cidr.Overlaps(s.space.cidr) }) {
		return nil, clientError("InvalidCidrBlock.InUse", "The vpc %s currently has a subnet within CIDR block %s", v.id, b.cidr)
	}
	if b.state != ec2types.VpcCidrBlockStateCodeAssociated {
		return nil, clientError("IncorrectState", "The vpc CIDR block association %s is '%s', not 'associated'.", id, b.state)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	b.state = ec2types.VpcCidrBlockStateCodeDisassociating
	description := describeBlock(b)
	r.after(r.latency.Associate, func() {
		v.blocks = slices.DeleteFunc(v.blocks, func(other *vpcBlock) bool { return other == b })
	})
	return &ec2.DisassociateVpcCidrBlockOutput{VpcId: &v.id, CidrBlockAssociation: &description}, nil
}

func (r *request) blockByID(id string) (*vpc, *vpcBlock) {
	for _, v := range r.vpcs.all() {
		for _, b := range v.blocks {
			if b.id == id {
				return v, b
			}
		}
	}
	return nil, nil
}
