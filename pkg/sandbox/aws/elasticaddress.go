// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func (r *request) releaseAddress(in *ec2.ReleaseAddressInput) (*ec2.ReleaseAddressOutput, error) {
	a, err := r.addresses.one(kindAddress, "allocationId", in.AllocationId)
	if err != nil {
		return nil, err
	}
	if a.owner != nil {
		return nil, clientError("InvalidIPAddress.InUse", "Address %s is in use.", a.public)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	r.addresses.remove(a.id)
	return &ec2.ReleaseAddressOutput{}, nil
}

// describeAddresses has no pages, as EC2's.
func (r *request) describeAddresses(in *ec2.DescribeAddressesInput) (*ec2.DescribeAddressesOutput, error) {
	addresses, err := r.addresses.pick(kindAddress, in.AllocationIds)
	if err != nil {
		return nil, err
	}
	for _, public := range in.PublicIps {
		there := slices.ContainsFunc(addresses, func(a *elasticAddress) bool { return a.public.String() == public })
		if !there {
			return nil, clientError("InvalidAddress.NotFound", "Address '%s' not found.", public)
		}
	}
	if len(in.PublicIps) > 0 {
		addresses = slices.DeleteFunc(addresses, func(a *elasticAddress) bool { return !slices.Contains(in.PublicIps, a.public.String()) })
	}
	of := func(a *elasticAddress) attributes {
		return attributes(func(name string) (values []string, ok bool) {
			switch name {
			case "allocation-id":
				return []string{a.id}, true
			case "public-ip":
				return []string{a.public.String()}, true
			case "domain":
				return []string{string(ec2types.DomainTypeVpc)}, true
			case "association-id":
				if a.owner != nil {
					values = append(values, a.association)
				}
				return values, true
			case "network-interface-id":
				if a.owner != nil {
					values = append(values, a.owner.id)
				}
				return values, true
			case "private-ip-address":
				if a.owner != nil {
					values = append(values, a.owner.primary.String())
				}
				return values, true
			}
			return nil, false
		}).with(a.tags)
	}
	described, _, err := filterPage(addresses, in.Filters, of, r.describeAddress, nil, nil, 1, int32(len(addresses)))
	return &ec2.DescribeAddressesOutput{Addresses: described}, err
}

func (r *request) describeAddress(a *elasticAddress) ec2types.Address {
	d := ec2types.Address{
		AllocationId: &a.id, PublicIp: awssdk.String(a.public.String()), Domain: ec2types.DomainTypeVpc, PublicIpv4Pool: awssdk.String("amazon"),
		NetworkBorderGroup: &r.region, Tags: tagList(a.tags),
	}
	if a.owner != nil {
		d.AssociationId, d.NetworkInterfaceId, d.NetworkInterfaceOwnerId = &a.association, &a.owner.id, &r.account
		d.PrivateIpAddress = awssdk.String(a.owner.primary.String())
	}
	return d
}

// deleteNATGateway frees the gateway's interface and its address when it is gone. It is described as deleted for as long as a
// terminated instance is.
func (r *request) deleteNATGateway(in *ec2.DeleteNatGatewayInput) (*ec2.DeleteNatGatewayOutput, error) {
	g, err := r.natGateways.one(kindNAT, "natGatewayId", in.NatGatewayId)
	if err != nil {
		return nil, err
	}
	if g.state == ec2types.NatGatewayStateDeleted {
		return nil, kindNAT.missing(g.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	if g.state != ec2types.NatGatewayStateDeleting {
		g.state = ec2types.NatGatewayStateDeleting
		r.after(r.latency.Associate, func() {
			g.state = ec2types.NatGatewayStateDeleted
			g.address.owner, g.address.association = nil, ""
			r.free(g.owner)
			r.after(Span{Min: r.latency.Terminated}, func() { r.natGateways.remove(g.id) })
		})
	}
	return &ec2.DeleteNatGatewayOutput{NatGatewayId: &g.id}, nil
}
