// SPDX-License-Identifier: Apache-2.0

// Package eni makes and changes the instance's pod ENIs with EC2. Its answers are the truth: the instance metadata service
// lags behind them.
package eni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// Tags on ENIs, those of aws-node where it has one.
const (
	TagInstance = "node.k8s.amazonaws.com/instance_id"
	TagCreated  = "node.k8s.amazonaws.com/createdAt"
	TagCluster  = "cluster.k8s.amazonaws.com/name"
	TagOwner    = "eks:eni:owner"
	// TagNoManage on an ENI keeps CNIs off it.
	TagNoManage = "node.k8s.amazonaws.com/no_manage"
	ownerValue  = "dovetail"
)

// ENI that is attached to the instance.
type ENI struct {
	ID, MAC, Subnet string
	AttachmentID    string
	DeviceIndex     int
	Primary         netip.Addr
	// Prefixes: delegated /28s, then secondary addresses as /32s.
	Prefixes []netip.Prefix
	// Ours: made for pods by this agent or one before it.
	Ours bool
	// DeleteOnTermination of the attachment.
	DeleteOnTermination bool
}

// Client of EC2 for one instance.
type Client struct {
	EC2        *ec2.Client
	InstanceID string
	Cluster    string
	subnets    map[string]netip.Prefix
}

// List returns the attached ENIs, by device index.
func (c *Client) List(ctx context.Context) ([]ENI, error) {
	var enis []ENI
	pages := ec2.NewDescribeNetworkInterfacesPaginator(c.EC2, &ec2.DescribeNetworkInterfacesInput{
		Filters: []ec2types.Filter{{Name: aws.String("attachment.instance-id"), Values: []string{c.InstanceID}}}, MaxResults: aws.Int32(100),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing the ENIs of %s: %w", c.InstanceID, err)
		}
		for _, n := range page.NetworkInterfaces {
			e, err := c.parse(n)
			if err != nil {
				return nil, err
			}
			enis = append(enis, e)
		}
	}
	slices.SortFunc(enis, func(a, b ENI) int { return a.DeviceIndex - b.DeviceIndex })
	return enis, nil
}

func (c *Client) parse(n ec2types.NetworkInterface) (ENI, error) {
	e := ENI{ID: aws.ToString(n.NetworkInterfaceId), MAC: aws.ToString(n.MacAddress), Subnet: aws.ToString(n.SubnetId)}
	var err error
	if e.Primary, err = netip.ParseAddr(aws.ToString(n.PrivateIpAddress)); err != nil {
		return e, fmt.Errorf("ENI %s: primary address: %w", e.ID, err)
	}
	if n.Attachment != nil {
		e.DeviceIndex = int(aws.ToInt32(n.Attachment.DeviceIndex))
		e.AttachmentID = aws.ToString(n.Attachment.AttachmentId)
		e.DeleteOnTermination = aws.ToBool(n.Attachment.DeleteOnTermination)
	}
	for _, p := range n.Ipv4Prefixes {
		prefix, err := netip.ParsePrefix(aws.ToString(p.Ipv4Prefix))
		if err != nil {
			return e, fmt.Errorf("ENI %s: prefix: %w", e.ID, err)
		}
		e.Prefixes = append(e.Prefixes, prefix)
	}
	for _, a := range n.PrivateIpAddresses {
		if aws.ToBool(a.Primary) {
			continue
		}
		single, err := netip.ParseAddr(aws.ToString(a.PrivateIpAddress))
		if err != nil {
			return e, fmt.Errorf("ENI %s: address: %w", e.ID, err)
		}
		e.Prefixes = append(e.Prefixes, netip.PrefixFrom(single, 32))
	}
	instance, managed := "", true
	for _, tag := range n.TagSet {
		switch aws.ToString(tag.Key) {
		case TagInstance:
			instance = aws.ToString(tag.Value)
		case TagNoManage:
			managed = aws.ToString(tag.Value) != "true"
		}
	}
	e.Ours = instance == c.InstanceID && managed
	return e, nil
}

// SubnetCIDR reads it once a subnet.
func (c *Client) SubnetCIDR(ctx context.Context, id string) (netip.Prefix, error) {
	if cidr, ok := c.subnets[id]; ok {
		return cidr, nil
	}
	out, err := c.EC2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{id}})
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("reading subnet %s: %w", id, err)
	}
	cidr, err := netip.ParsePrefix(aws.ToString(out.Subnets[0].CidrBlock))
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("CIDR of subnet %s: %w", id, err)
	}
	if c.subnets == nil {
		c.subnets = map[string]netip.Prefix{}
	}
	c.subnets[id] = cidr
	return cidr, nil
}

// CreateParams of a pod ENI.
type CreateParams struct {
	Subnet         string
	SecurityGroups []string
	Unit           pool.Unit
	Count          int
	// UsedIndexes are the device indexes that are taken; MaxENIs bounds those that exist.
	UsedIndexes []int
	MaxENIs     int
}

// Create makes an ENI with its prefixes or addresses and attaches it: two calls. When it cannot be attached it is deleted
// again.
func (c *Client) Create(ctx context.Context, p CreateParams) (ENI, error) {
	input := &ec2.CreateNetworkInterfaceInput{
		SubnetId: aws.String(p.Subnet), Groups: p.SecurityGroups, Description: aws.String("aws-K8S-" + c.InstanceID),
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeNetworkInterface, Tags: c.tags()}},
	}
	if p.Unit == pool.Prefix {
		input.Ipv4PrefixCount = aws.Int32(int32(p.Count)) //nolint:gosec // at most the slots of an ENI
	} else {
		input.SecondaryPrivateIpAddressCount = aws.Int32(int32(p.Count)) //nolint:gosec // as above
	}
	created, err := c.EC2.CreateNetworkInterface(ctx, input)
	if err != nil {
		return ENI{}, fmt.Errorf("creating an ENI in %s: %w", p.Subnet, err)
	}
	e, err := c.parse(*created.NetworkInterface)
	if err == nil {
		e.Ours = true
		err = c.attach(ctx, &e, p)
	}
	if err != nil {
		_, deletion := c.EC2.DeleteNetworkInterface(context.WithoutCancel(ctx), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: created.NetworkInterface.NetworkInterfaceId})
		return ENI{}, errors.Join(err, deletion)
	}
	return e, nil
}

func (c *Client) tags() []ec2types.Tag {
	tag := func(key, value string) ec2types.Tag {
		return ec2types.Tag{Key: aws.String(key), Value: aws.String(value)}
	}
	return []ec2types.Tag{
		tag(TagInstance, c.InstanceID), tag(TagCluster, c.Cluster), tag(TagOwner, ownerValue), tag(TagCreated, time.Now().UTC().Format(time.RFC3339)),
	}
}

// attach takes the lowest free device index. Somebody else may have taken it meanwhile: then the next.
func (c *Client) attach(ctx context.Context, e *ENI, p CreateParams) error {
	for index := 1; index < p.MaxENIs; index++ {
		if slices.Contains(p.UsedIndexes, index) {
			continue
		}
		out, err := c.EC2.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{
			NetworkInterfaceId: aws.String(e.ID), InstanceId: aws.String(c.InstanceID), DeviceIndex: aws.Int32(int32(index)), //nolint:gosec // at most the ENIs of an instance
		})
		if err == nil {
			e.DeviceIndex, e.AttachmentID = index, aws.ToString(out.AttachmentId)
			return nil
		}
		if Classify(err) != IndexTaken {
			return fmt.Errorf("attaching ENI %s: %w", e.ID, err)
		}
	}
	return fmt.Errorf("attaching ENI %s: no device index below %d is free", e.ID, p.MaxENIs)
}

// DeleteOnTermination makes EC2 delete the ENI with the instance: an attached one is left behind otherwise.
func (c *Client) DeleteOnTermination(ctx context.Context, e ENI) error {
	_, err := c.EC2.ModifyNetworkInterfaceAttribute(ctx, &ec2.ModifyNetworkInterfaceAttributeInput{
		NetworkInterfaceId: aws.String(e.ID),
		Attachment:         &ec2types.NetworkInterfaceAttachmentChanges{AttachmentId: aws.String(e.AttachmentID), DeleteOnTermination: aws.Bool(true)},
	})
	if err != nil {
		return fmt.Errorf("setting DeleteOnTermination of ENI %s: %w", e.ID, err)
	}
	return nil
}

// Assign adds prefixes or addresses to an attached ENI and returns them.
func (c *Client) Assign(ctx context.Context, id string, unit pool.Unit, count int) ([]netip.Prefix, error) {
	input := &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: aws.String(id)}
	if unit == pool.Prefix {
		input.Ipv4PrefixCount = aws.Int32(int32(count)) //nolint:gosec // at most the slots of an ENI
	} else {
		input.SecondaryPrivateIpAddressCount = aws.Int32(int32(count)) //nolint:gosec // as above
	}
	out, err := c.EC2.AssignPrivateIpAddresses(ctx, input)
	if err != nil {
		return nil, fmt.Errorf("assigning %d of unit %s to ENI %s: %w", count, unit, id, err)
	}
	var assigned []netip.Prefix
	for _, p := range out.AssignedIpv4Prefixes {
		prefix, err := netip.ParsePrefix(aws.ToString(p.Ipv4Prefix))
		if err != nil {
			return nil, fmt.Errorf("ENI %s: prefix: %w", id, err)
		}
		assigned = append(assigned, prefix)
	}
	for _, a := range out.AssignedPrivateIpAddresses {
		single, err := netip.ParseAddr(aws.ToString(a.PrivateIpAddress))
		if err != nil {
			return nil, fmt.Errorf("ENI %s: address: %w", id, err)
		}
		assigned = append(assigned, netip.PrefixFrom(single, 32))
	}
	return assigned, nil
}

// Limits asks EC2 for an instance type's geometry: for nodes whose labels do not say it.
func (c *Client) Limits(ctx context.Context, instanceType string) (ec2types.InstanceTypeInfo, error) {
	out, err := c.EC2.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []ec2types.InstanceType{ec2types.InstanceType(instanceType)}})
	if err != nil {
		return ec2types.InstanceTypeInfo{}, fmt.Errorf("reading instance type %s: %w", instanceType, err)
	}
	if len(out.InstanceTypes) == 0 {
		return ec2types.InstanceTypeInfo{}, fmt.Errorf("EC2 does not know instance type %s", instanceType)
	}
	return out.InstanceTypes[0], nil
}
