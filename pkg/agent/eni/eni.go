// SPDX-License-Identifier: Apache-2.0

// Package eni makes and changes the instance's pod ENIs with EC2. Its answers are the truth: the instance metadata service
// lags behind them.
package eni

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

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
	// OwnerDovetail is the value of TagOwner on ENIs that an agent made.
	OwnerDovetail = "dovetail"
)

// ENI that is attached to the instance.
type ENI struct {
	ID, MAC, Subnet string
	// SubnetCIDR where it is known without a call; see Client.SubnetCIDR.
	SubnetCIDR   netip.Prefix
	AttachmentID string
	DeviceIndex  int
	Primary      netip.Addr
	// Prefixes: delegated /28s, then secondary addresses as /32s.
	Prefixes []netip.Prefix
	// Ours: made for pods by this agent or one before it, or by aws-node, and not tagged TagNoManage. Others are left alone.
	Ours bool
	// Detaching: on its way out, of no use for pods, and still counted by EC2.
	Detaching bool
	// NetworkCard that it is attached to. Device indexes are of a card; pods use card 0.
	NetworkCard int
	// DeleteOnTermination of the attachment.
	DeleteOnTermination bool
}

// Client of EC2 for one instance.
type Client struct {
	EC2        *ec2.Client
	InstanceID string
	Cluster    string
	subnets    map[string]netip.Prefix
	once       aws.Retryer // see assignRetryer
}

// List returns the attached ENIs, by network card and device index.
func (c *Client) List(ctx context.Context) ([]ENI, error) {
	enis, err := c.describe(ctx, filter("attachment.instance-id", c.InstanceID))
	if err != nil {
		return nil, fmt.Errorf("listing the ENIs of %s: %w", c.InstanceID, err)
	}
	slices.SortFunc(enis, func(a, b ENI) int { return cmp.Or(a.NetworkCard-b.NetworkCard, a.DeviceIndex-b.DeviceIndex) })
	return enis, nil
}

func filter(name, value string) ec2types.Filter {
	return ec2types.Filter{Name: aws.String(name), Values: []string{value}}
}

// describe asks by filter, never by id: an id that EC2 does not know yet fails the call, a filter gives fewer items.
func (c *Client) describe(ctx context.Context, filters ...ec2types.Filter) ([]ENI, error) {
	var enis []ENI
	pages := ec2.NewDescribeNetworkInterfacesPaginator(c.EC2, &ec2.DescribeNetworkInterfacesInput{Filters: filters, MaxResults: aws.Int32(100)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range page.NetworkInterfaces {
			e, err := c.parse(n)
			if err != nil {
				return nil, err
			}
			enis = append(enis, e)
		}
	}
	return enis, nil
}

func (c *Client) parse(n ec2types.NetworkInterface) (ENI, error) {
	e := ENI{ID: aws.ToString(n.NetworkInterfaceId), MAC: aws.ToString(n.MacAddress), Subnet: aws.ToString(n.SubnetId)}
	var err error
	if e.Primary, err = parseIPv4(n.PrivateIpAddress); err != nil {
		return e, fmt.Errorf("ENI %s: primary address: %w", e.ID, err)
	}
	if n.Attachment != nil {
		e.DeviceIndex = int(aws.ToInt32(n.Attachment.DeviceIndex))
		e.AttachmentID = aws.ToString(n.Attachment.AttachmentId)
		e.DeleteOnTermination = aws.ToBool(n.Attachment.DeleteOnTermination)
		e.Detaching = n.Attachment.Status == ec2types.AttachmentStatusDetaching
		e.NetworkCard = int(aws.ToInt32(n.Attachment.NetworkCardIndex))
	}
	for _, p := range n.Ipv4Prefixes {
		prefix, err := parseBlock(p.Ipv4Prefix)
		if err != nil {
			return e, fmt.Errorf("ENI %s: prefix: %w", e.ID, err)
		}
		e.Prefixes = append(e.Prefixes, prefix)
	}
	for _, a := range n.PrivateIpAddresses {
		if aws.ToBool(a.Primary) {
			continue
		}
		single, err := parseIPv4(a.PrivateIpAddress)
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
	// A trunk or an EFA belongs to its own controller, whatever its tags say; the primary ENI is the node's.
	kind := n.InterfaceType == ec2types.NetworkInterfaceTypeInterface || n.InterfaceType == ""
	primary := n.Attachment != nil && e.DeviceIndex == 0
	e.Ours = instance == c.InstanceID && managed && kind && !primary && e.NetworkCard == 0
	return e, nil
}

func parseIPv4(text *string) (netip.Addr, error) {
	address, err := netip.ParseAddr(aws.ToString(text))
	if err == nil && !address.Is4() {
		err = fmt.Errorf("%s is no IPv4 address", address)
	}
	return address, err
}

// parseBlock that is delegated to an ENI, a /28.
func parseBlock(text *string) (netip.Prefix, error) {
	block, err := netip.ParsePrefix(aws.ToString(text))
	if err == nil && (!block.Addr().Is4() || block.Bits() != pool.PrefixLength || block != block.Masked()) {
		err = fmt.Errorf("%s is no /28 of IPv4 addresses", block)
	}
	return block, err
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
