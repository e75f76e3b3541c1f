// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/netip"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// peering joins two VPCs of the account. It passes packets in state active.
type peering struct {
	id                  string
	requester, accepter *vpc
	state               ec2types.VpcPeeringConnectionStateReasonCode
	message             string
	tags                map[string]string
}

func (p *peering) joins(v *vpc) bool { return p.requester == v || p.accepter == v }

// over tells whether the peering came to its end.
func (p *peering) over() bool {
	return slices.Contains([]ec2types.VpcPeeringConnectionStateReasonCode{
		ec2types.VpcPeeringConnectionStateReasonCodeDeleted, ec2types.VpcPeeringConnectionStateReasonCodeFailed,
	}, p.state)
}

func (p *peering) become(state ec2types.VpcPeeringConnectionStateReasonCode, message string) {
	p.state, p.message = state, message
}

// createPeering fails later, as EC2's does, when the VPCs' blocks overlap.
func (r *request) createPeering(in *ec2.CreateVpcPeeringConnectionInput) (*ec2.CreateVpcPeeringConnectionOutput, error) {
	requester, err := r.vpcs.one(kindVPC, "vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	if owner := awssdk.ToString(in.PeerOwnerId); owner != "" && owner != r.account {
		return nil, notSimulated("peering with another account")
	}
	if region := awssdk.ToString(in.PeerRegion); region != "" && region != r.region {
		return nil, notSimulated("peering with another Region")
	}
	accepter, err := r.vpcs.one(kindVPC, "peerVpcId", in.PeerVpcId)
	if err != nil {
		return nil, err
	}
	for _, p := range r.peerings.all() {
		if !p.over() && p.joins(requester) && p.joins(accepter) {
			return nil, clientError("VpcPeeringConnectionAlreadyExists", "The VPC peering connection %s between these VPCs already exists", p.id)
		}
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeVpcPeeringConnection)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	p := &peering{id: r.ids.next("pcx"), requester: requester, accepter: accepter, tags: tags}
	p.become(ec2types.VpcPeeringConnectionStateReasonCodeInitiatingRequest, "Initiating Request to "+r.account)
	r.peerings.add(p.id, p)
	description := r.describePeering(p)
	if requester == accepter || overlap(requester.associated(), accepter.associated()) {
		p.become(ec2types.VpcPeeringConnectionStateReasonCodeFailed, "Failed due to incorrect VPC-ID, Account ID, or overlapping CIDR range")
	} else {
		p.become(ec2types.VpcPeeringConnectionStateReasonCodePendingAcceptance, "Pending Acceptance by "+r.account)
	}
	return &ec2.CreateVpcPeeringConnectionOutput{VpcPeeringConnection: &description}, nil
}

func overlap(some, others []netip.Prefix) bool {
	return slices.ContainsFunc(some, func(a netip.Prefix) bool { return slices.ContainsFunc(others, a.Overlaps) })
}

func (r *request) acceptPeering(in *ec2.AcceptVpcPeeringConnectionInput) (*ec2.AcceptVpcPeeringConnectionOutput, error) {
	p, err := r.peerings.one(kindPeering, "vpcPeeringConnectionId", in.VpcPeeringConnectionId)
	if err != nil {
		return nil, err
	}
	if p.state != ec2types.VpcPeeringConnectionStateReasonCodePendingAcceptance {
		return nil, clientError("InvalidStateTransition", "Invalid state transition for %s, attempted to transition from %s to active", p.id, p.state)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	p.become(ec2types.VpcPeeringConnectionStateReasonCodeProvisioning, "Provisioning")
	description := r.describePeering(p)
	r.after(r.latency.Associate, func() {
		if p.state == ec2types.VpcPeeringConnectionStateReasonCodeProvisioning {
			p.become(ec2types.VpcPeeringConnectionStateReasonCodeActive, "Active")
		}
	})
	return &ec2.AcceptVpcPeeringConnectionOutput{VpcPeeringConnection: &description}, nil
}

// deletePeering leaves routes to it as blackholes.
func (r *request) deletePeering(in *ec2.DeleteVpcPeeringConnectionInput) (*ec2.DeleteVpcPeeringConnectionOutput, error) {
	p, err := r.peerings.one(kindPeering, "vpcPeeringConnectionId", in.VpcPeeringConnectionId)
	if err != nil {
		return nil, err
	}
	if p.over() {
		return nil, clientError("InvalidStateTransition", "Invalid state transition for %s, attempted to transition from %s to deleted", p.id, p.state)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	p.become(ec2types.VpcPeeringConnectionStateReasonCodeDeleted, "Deleted by "+r.account)
	r.after(Span{Min: r.latency.Terminated}, func() { r.peerings.remove(p.id) })
	return &ec2.DeleteVpcPeeringConnectionOutput{Return: awssdk.Bool(true)}, nil
}

func (r *request) describePeerings(in *ec2.DescribeVpcPeeringConnectionsInput) (*ec2.DescribeVpcPeeringConnectionsOutput, error) {
	peerings, err := r.peerings.pick(kindPeering, in.VpcPeeringConnectionIds)
	if err != nil {
		return nil, err
	}
	of := func(p *peering) attributes {
		return attributes(func(name string) ([]string, bool) {
			switch name {
			case "vpc-peering-connection-id":
				return []string{p.id}, true
			case "requester-vpc-info.vpc-id":
				return []string{p.requester.id}, true
			case "accepter-vpc-info.vpc-id":
				return []string{p.accepter.id}, true
			case "status-code":
				return []string{string(p.state)}, true
			}
			return nil, false
		}).with(p.tags)
	}
	described, next, err := filterPage(peerings, in.Filters, of, r.describePeering, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeVpcPeeringConnectionsOutput{VpcPeeringConnections: described, NextToken: next}, err
}

func (r *request) describePeering(p *peering) ec2types.VpcPeeringConnection {
	side := func(v *vpc) *ec2types.VpcPeeringConnectionVpcInfo {
		info := &ec2types.VpcPeeringConnectionVpcInfo{VpcId: &v.id, OwnerId: &r.account, Region: &r.region}
		for i, cidr := range v.associated() {
			if i == 0 {
				info.CidrBlock = awssdk.String(cidr.String())
			}
			info.CidrBlockSet = append(info.CidrBlockSet, ec2types.CidrBlock{CidrBlock: awssdk.String(cidr.String())})
		}
		return info
	}
	return ec2types.VpcPeeringConnection{
		VpcPeeringConnectionId: &p.id, RequesterVpcInfo: side(p.requester), AccepterVpcInfo: side(p.accepter), Tags: tagList(p.tags),
		Status: &ec2types.VpcPeeringConnectionStateReason{Code: p.state, Message: awssdk.String(p.message)},
	}
}
