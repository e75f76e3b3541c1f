// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"github.com/samber/lo"
	"golang.org/x/sync/errgroup"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

const (
	// often to ask whether something of EC2's is there.
	often = 100 * time.Millisecond
	// atOnce are the calls of EC2 that are under way together.
	atOnce = 8
)

// builder makes the cluster's VPC on the stage, with the calls that a person makes.
type builder struct {
	*theater
	shape *VPC
	main  string // route table
}

func (t *theater) buildVPC(ctx context.Context, shape *VPC) error {
	b := &builder{theater: t, shape: shape}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"the stage's own VPC", b.hide}, {"CIDR blocks", b.blocks}, {"security groups", b.groups}, {"subnets", b.build}, {"peerings", b.peer},
		{"route tables", b.route}, {"addresses that are taken", b.take}, {"CIDR reservations", b.reserve}, {"addresses of the stage's own nodes", b.keepNames},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("building the VPC, %s: %w", step.what, err)
		}
	}
	return nil
}

func filter(name string, values ...string) []ec2types.Filter {
	return []ec2types.Filter{{Name: aws.String(name), Values: values}}
}

// hide the stage's own subnets and groups from selectors: they may have the very tags of the cluster's.
func (b *builder) hide(ctx context.Context) error {
	subnets, err := b.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: filter("vpc-id", b.VPC)})
	if err != nil {
		return err
	}
	groups, err := b.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: filter("vpc-id", b.VPC)})
	if err != nil {
		return err
	}
	for _, s := range subnets.Subnets {
		err = errors.Join(err, b.untag(ctx, s.SubnetId, s.Tags))
	}
	for _, g := range groups.SecurityGroups {
		err = errors.Join(err, b.untag(ctx, g.GroupId, g.Tags))
	}
	return err
}

func (b *builder) untag(ctx context.Context, id *string, tags []ec2types.Tag) error {
	if len(tags) == 0 {
		return nil
	}
	keys := lo.Map(tags, func(t ec2types.Tag, _ int) ec2types.Tag { return ec2types.Tag{Key: t.Key} })
	_, err := b.ec2.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: []string{*id}, Tags: keys})
	return err
}

func (b *builder) blocks(ctx context.Context) error {
	id, err := b.create(ctx, b.shape.CIDRs)
	if err != nil {
		return err
	}
	b.vpc = id
	if b.shape.ID != "" {
		b.names[b.shape.ID] = id
	}
	return nil
}

// create a VPC of these blocks.
func (b *builder) create(ctx context.Context, cidrs []netip.Prefix) (string, error) {
	out, err := b.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String(cidrs[0].String())})
	if err != nil {
		return "", err
	}
	id := *out.Vpc.VpcId
	for _, cidr := range cidrs[1:] {
		if _, err := b.ec2.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: &id, CidrBlock: aws.String(cidr.String())}); err != nil {
			return "", fmt.Errorf("%s: %w", cidr, err)
		}
	}
	return id, poll(ctx, often, func(ctx context.Context) (bool, error) {
		out, err := b.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{id}})
		if err != nil || len(out.Vpcs) == 0 {
			return false, ignore(err, "InvalidVpcID.NotFound")
		}
		return lo.EveryBy(out.Vpcs[0].CidrBlockAssociationSet, func(a ec2types.VpcCidrBlockAssociation) bool {
			return a.CidrBlockState.State == ec2types.VpcCidrBlockStateCodeAssociated
		}), nil
	})
}

// ignore what EC2 says of a thing that it does not know everywhere yet.
func ignore(err error, code string) error {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == code {
		return nil
	}
	return err
}

func tagList(tags map[string]string) []ec2types.Tag {
	var list []ec2types.Tag
	for key, value := range tags {
		list = append(list, ec2types.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	return list
}

func specification(kind ec2types.ResourceType, tags map[string]string) []ec2types.TagSpecification {
	if len(tags) == 0 {
		return nil
	}
	return []ec2types.TagSpecification{{ResourceType: kind, Tags: tagList(tags)}}
}

func (b *builder) groups(ctx context.Context) error {
	out, err := b.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: filter("vpc-id", b.vpc)})
	if err != nil {
		return err
	}
	made := len(out.SecurityGroups)
	for _, g := range b.shape.SecurityGroups {
		if g.Name == "default" && len(out.SecurityGroups) == 1 { // it comes with the VPC
			b.names[g.ID] = *out.SecurityGroups[0].GroupId
			if len(g.Tags) > 0 {
				if _, err := b.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{b.names[g.ID]}, Tags: tagList(g.Tags)}); err != nil {
					return err
				}
			}
			continue
		}
		created, err := b.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
			VpcId: &b.vpc, GroupName: aws.String(lo.CoalesceOrEmpty(g.Name, g.ID)), Description: aws.String("as " + g.ID), TagSpecifications: specification(ec2types.ResourceTypeSecurityGroup, g.Tags),
		})
		if err != nil {
			return fmt.Errorf("%s: %w", g.ID, err)
		}
		b.names[g.ID] = *created.GroupId
		made++
	}
	return b.known(ctx, made, func(ctx context.Context) (int, error) {
		out, err := b.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: filter("vpc-id", b.vpc)})
		if err != nil {
			return 0, err
		}
		return len(out.SecurityGroups), nil
	})
}

// known waits until EC2 knows so many new things everywhere.
func (b *builder) known(ctx context.Context, want int, count func(context.Context) (int, error)) error {
	if want == 0 {
		return nil
	}
	return poll(ctx, often, func(ctx context.Context) (bool, error) {
		n, err := count(ctx)
		return n >= want, err
	})
}

func (b *builder) build(ctx context.Context) error {
	for _, s := range b.shape.Subnets {
		tags := maps.Clone(s.Tags)
		if tags[v1alpha1.TagCluster] != "" { // one that spec.provision has made
			tags[v1alpha1.TagCluster] = b.ClusterName
		}
		out, err := b.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{
			VpcId: &b.vpc, CidrBlock: aws.String(s.CIDR.String()), AvailabilityZone: aws.String(b.names.of(s.Zone)), TagSpecifications: specification(ec2types.ResourceTypeSubnet, tags),
		})
		if err != nil {
			return fmt.Errorf("%s: %w", s.ID, err)
		}
		b.names[s.ID] = *out.Subnet.SubnetId
		b.subnets = append(b.subnets, s.ID)
	}
	err := b.known(ctx, len(b.shape.Subnets), func(ctx context.Context) (int, error) {
		out, err := b.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: filter("vpc-id", b.vpc)})
		if err != nil {
			return 0, err
		}
		return len(out.Subnets), nil
	})
	for _, s := range b.shape.Subnets {
		if s.PublicAddresses && err == nil {
			_, err = b.ec2.ModifySubnetAttribute(ctx, &ec2.ModifySubnetAttributeInput{SubnetId: aws.String(b.names[s.ID]), MapPublicIpOnLaunch: &ec2types.AttributeBooleanValue{Value: aws.Bool(true)}})
		}
	}
	return err
}

// take what others than nodes have taken.
func (b *builder) take(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	for _, s := range b.shape.Subnets {
		for _, f := range fill(units(s.CIDR, s.Taken)) {
			input := &ec2.CreateNetworkInterfaceInput{
				SubnetId: aws.String(b.names[s.ID]), Description: aws.String("taken"), PrivateIpAddress: aws.String(f.first.String()),
				Ipv4Prefixes: lo.Map(f.prefixes, func(p netip.Prefix, _ int) ec2types.Ipv4PrefixSpecificationRequest {
					return ec2types.Ipv4PrefixSpecificationRequest{Ipv4Prefix: aws.String(p.String())}
				}),
			}
			for _, a := range f.addresses {
				input.PrivateIpAddresses = append(input.PrivateIpAddresses, ec2types.PrivateIpAddressSpecification{PrivateIpAddress: aws.String(a.String()), Primary: aws.Bool(false)})
			}
			all.Go(func() error {
				_, err := b.ec2.CreateNetworkInterface(ctx, input)
				if err != nil {
					return fmt.Errorf("%s: %w", s.ID, err)
				}
				return nil
			})
		}
	}
	return all.Wait()
}

func (b *builder) reserve(ctx context.Context) error {
	for _, s := range b.shape.Subnets {
		for _, r := range s.Reservations {
			_, err := b.ec2.CreateSubnetCidrReservation(ctx, &ec2.CreateSubnetCidrReservationInput{
				SubnetId: aws.String(b.names[s.ID]), Cidr: aws.String(r.CIDR.String()), ReservationType: ec2types.SubnetCidrReservationType(r.Type),
			})
			if err != nil {
				return fmt.Errorf("%s of %s: %w", r.CIDR, s.ID, err)
			}
		}
	}
	return nil
}

// keepNames of the stage's own nodes from others: nodes are named by their address, and two VPCs may have the same one. It costs the
// subnet that address, where it is free.
func (b *builder) keepNames(ctx context.Context) error {
	out, err := b.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: filter("vpc-id", b.VPC)})
	if err != nil {
		return err
	}
	for _, eni := range out.NetworkInterfaces {
		address, err := netip.ParseAddr(aws.ToString(eni.PrivateIpAddress))
		if err != nil || eni.Attachment == nil || aws.ToString(eni.Attachment.InstanceId) == "" {
			continue
		}
		for _, s := range b.shape.Subnets {
			if !s.CIDR.Contains(address) {
				continue
			}
			_, err := b.ec2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(b.names[s.ID]), PrivateIpAddress: aws.String(address.String()), Description: aws.String("name of a node")})
			if ignore(ignore(err, "InvalidIPAddress.InUse"), "InvalidParameterValue") != nil {
				return err
			}
		}
	}
	return nil
}
