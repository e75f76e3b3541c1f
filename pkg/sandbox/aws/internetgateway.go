// SPDX-License-Identifier: Apache-2.0

package aws

import (
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

type internetGateway struct {
	id   string
	vpc  *vpc // nil: detached
	tags map[string]string
}

func (r *request) createInternetGateway(in *ec2.CreateInternetGatewayInput) (*ec2.CreateInternetGatewayOutput, error) {
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeInternetGateway)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	g := &internetGateway{id: r.ids.next("igw"), tags: tags}
	r.gateways.add(g.id, g)
	description := r.describeInternetGateway(g)
	return &ec2.CreateInternetGatewayOutput{InternetGateway: &description}, nil
}

func (r *request) attachInternetGateway(in *ec2.AttachInternetGatewayInput) (*ec2.AttachInternetGatewayOutput, error) {
	g, err := r.gateways.one(kindGateway, "internetGatewayId", in.InternetGatewayId)
	if err != nil {
		return nil, err
	}
	v, err := r.vpcs.one(kindVPC, "vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	for _, other := range r.gateways.all() {
		if other.vpc == v || other == g && g.vpc != nil {
			return nil, clientError("Resource.AlreadyAssociated", "resource %s is already attached to network %s", other.id, other.vpc.id)
		}
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	g.vpc = v
	return &ec2.AttachInternetGatewayOutput{}, nil
}

// detachInternetGateway refuses while public addresses of the VPC are mapped through the gateway.
func (r *request) detachInternetGateway(in *ec2.DetachInternetGatewayInput) (*ec2.DetachInternetGatewayOutput, error) {
	g, err := r.gateways.one(kindGateway, "internetGatewayId", in.InternetGatewayId)
	if err != nil {
		return nil, err
	}
	v, err := r.vpcs.one(kindVPC, "vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	if g.vpc != v {
		return nil, clientError("Gateway.NotAttached", "resource %s is not attached to network %s", g.id, v.id)
	}
	if r.hasPublicAddress(v) {
		return nil, clientError("DependencyViolation",
			"Network %s has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.", v.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	g.vpc = nil
	return &ec2.DetachInternetGatewayOutput{}, nil
}

func (c *Cloud) hasPublicAddress(v *vpc) bool {
	for _, n := range c.interfaces.all() {
		if n.subnet.vpc == v && n.public.IsValid() {
			return true
		}
	}
	for _, a := range c.addresses.all() {
		if a.owner != nil && a.owner.subnet.vpc == v {
			return true
		}
	}
	return false
}

func (r *request) deleteInternetGateway(in *ec2.DeleteInternetGatewayInput) (*ec2.DeleteInternetGatewayOutput, error) {
	g, err := r.gateways.one(kindGateway, "internetGatewayId", in.InternetGatewayId)
	if err != nil {
		return nil, err
	}
	if g.vpc != nil {
		return nil, errDependencies("internetGateway", g.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	r.gateways.remove(g.id)
	return &ec2.DeleteInternetGatewayOutput{}, nil
}

func (r *request) describeInternetGateways(in *ec2.DescribeInternetGatewaysInput) (*ec2.DescribeInternetGatewaysOutput, error) {
	gateways, err := r.gateways.pick(kindGateway, in.InternetGatewayIds)
	if err != nil {
		return nil, err
	}
	of := func(g *internetGateway) attributes {
		return attributes(func(name string) (values []string, ok bool) {
			switch name {
			case "internet-gateway-id":
				return []string{g.id}, true
			case "owner-id":
				return []string{r.account}, true
			case "attachment.vpc-id":
				if g.vpc != nil {
					values = append(values, g.vpc.id)
				}
				return values, true
			case "attachment.state":
				if g.vpc != nil {
					values = append(values, attachedGateway)
				}
				return values, true
			}
			return nil, false
		}).with(g.tags)
	}
	described, next, err := filterPage(gateways, in.Filters, of, r.describeInternetGateway, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeInternetGatewaysOutput{InternetGateways: described, NextToken: next}, err
}

// attachedGateway is the state of an attachment of an internet gateway; the SDK has constants of other resources only.
const attachedGateway = "available"

func (r *request) describeInternetGateway(g *internetGateway) ec2types.InternetGateway {
	d := ec2types.InternetGateway{InternetGatewayId: &g.id, OwnerId: &r.account, Tags: tagList(g.tags)}
	if g.vpc != nil {
		d.Attachments = []ec2types.InternetGatewayAttachment{{VpcId: awssdk.String(g.vpc.id), State: attachedGateway}}
	}
	return d
}
