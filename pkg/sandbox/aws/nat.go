// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/netip"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// elasticAddress is a public address of the account. The pool begins at 198.51.100.7, of TEST-NET-2 (RFC 5737).
type elasticAddress struct {
	id, association string
	public          netip.Addr
	owner           *networkInterface
	tags            map[string]string
}

type natGateway struct {
	id      string
	subnet  *subnet
	state   ec2types.NatGatewayState
	owner   *networkInterface
	address *elasticAddress
	created time.Time
	tags    map[string]string
}

func (r *request) allocateAddress(in *ec2.AllocateAddressInput) (*ec2.AllocateAddressOutput, error) {
	if in.Domain != "" && in.Domain != ec2types.DomainTypeVpc {
		return nil, invalidValue(string(in.Domain), "domain")
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeElasticIp)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	a := &elasticAddress{id: r.ids.next("eipalloc"), public: r.nextPublicAddress(), tags: tags}
	r.addresses.add(a.id, a)
	return &ec2.AllocateAddressOutput{
		AllocationId: &a.id, PublicIp: awssdk.String(a.public.String()), Domain: ec2types.DomainTypeVpc,
		PublicIpv4Pool: awssdk.String("amazon"), NetworkBorderGroup: &r.region,
	}, nil
}

func (c *Cloud) nextPublicAddress() netip.Addr {
	c.publicAddress = c.publicAddress.Next()
	return c.publicAddress
}

// kindOfNAT is the interface type as EC2 answers it; the SDK's constant is spelt natGateway.
const kindOfNAT ec2types.NetworkInterfaceType = "nat_gateway"

func (r *request) createNATGateway(in *ec2.CreateNatGatewayInput) (*ec2.CreateNatGatewayOutput, error) {
	s, err := r.subnet("subnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	if in.ConnectivityType == ec2types.ConnectivityTypePrivate {
		return nil, notSimulated("private NAT gateways")
	}
	a, err := r.addresses.one(kindAddress, "allocationId", in.AllocationId)
	if err != nil {
		return nil, err
	}
	if a.owner != nil {
		return nil, clientError("Resource.AlreadyAssociated", "Elastic IP address [%s] is already associated", a.id)
	}
	if !r.hasGateway(s.vpc) {
		return nil, clientError("Gateway.NotAttached", "Network %s has no Internet gateway attached", s.vpc.id)
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeNatgateway)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	g := &natGateway{id: r.ids.next("nat"), subnet: s, state: ec2types.NatGatewayStatePending, address: a, created: r.now, tags: tags}
	g.owner, err = r.allocate(interfaceSpec{
		id: r.ids.implicit("eni"), subnet: s, kind: kindOfNAT,
		description: "Interface for NAT Gateway " + g.id, tags: map[string]string{},
	})
	if err != nil {
		return nil, err
	}
	g.owner.sourceDestCheck = false
	r.attachToService(g.owner, "amazon-aws")
	a.owner, a.association = g.owner, r.ids.implicit("eipassoc")
	r.natGateways.add(g.id, g)
	r.after(r.latency.Associate, func() {
		if g.state == ec2types.NatGatewayStatePending {
			g.state = ec2types.NatGatewayStateAvailable
		}
	})
	description := r.describeNATGateway(g)
	return &ec2.CreateNatGatewayOutput{NatGateway: &description, ClientToken: in.ClientToken}, nil
}

func (c *Cloud) hasGateway(v *vpc) bool {
	for _, g := range c.gateways.all() {
		if g.vpc == v {
			return true
		}
	}
	return false
}

func (r *request) describeNATGateways(in *ec2.DescribeNatGatewaysInput) (*ec2.DescribeNatGatewaysOutput, error) {
	gateways, err := r.natGateways.pick(kindNAT, in.NatGatewayIds)
	if err != nil {
		return nil, err
	}
	of := func(g *natGateway) attributes {
		return attributes(func(name string) ([]string, bool) {
			switch name {
			case "nat-gateway-id":
				return []string{g.id}, true
			case "state":
				return []string{string(g.state)}, true
			case "subnet-id":
				return []string{g.subnet.id}, true
			case "vpc-id":
				return []string{g.subnet.vpc.id}, true
			}
			return nil, false
		}).with(g.tags)
	}
	described, next, err := filterPage(gateways, in.Filter, of, r.describeNATGateway, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeNatGatewaysOutput{NatGateways: described, NextToken: next}, err
}

func (r *request) describeNATGateway(g *natGateway) ec2types.NatGateway {
	return ec2types.NatGateway{
		NatGatewayId: &g.id, SubnetId: &g.subnet.id, VpcId: &g.subnet.vpc.id, State: g.state, CreateTime: &g.created,
		ConnectivityType: ec2types.ConnectivityTypePublic, Tags: tagList(g.tags),
		NatGatewayAddresses: []ec2types.NatGatewayAddress{{
			AllocationId: &g.address.id, AssociationId: &g.address.association, PublicIp: awssdk.String(g.address.public.String()),
			PrivateIp: awssdk.String(g.owner.primary.String()), NetworkInterfaceId: &g.owner.id, IsPrimary: awssdk.Bool(true),
			Status: ec2types.NatGatewayAddressStatusSucceeded,
		}},
	}
}
