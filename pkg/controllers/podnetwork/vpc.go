// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/patrickmn/go-cache"
	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
	"github.com/dovetail-dev/dovetail/pkg/ec2read"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// describeTTL keeps EC2's answers while NodeClaims come and go in bursts: each of them wakes the controller.
const describeTTL = 15 * time.Second

// EC2 is what the controller reads from EC2. An *ec2.Client is one.
type EC2 interface {
	DescribeSubnets(context.Context, *ec2.DescribeSubnetsInput, ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error)
	DescribeSecurityGroups(context.Context, *ec2.DescribeSecurityGroupsInput, ...func(*ec2.Options)) (*ec2.DescribeSecurityGroupsOutput, error)
}

// vpcReader reads subnets and security groups.
type vpcReader struct {
	ec2        EC2
	podSubnets *podsubnet.Reader
	cache      *cache.Cache
}

// read fills in the view's subnets and security groups.
func (r vpcReader) read(ctx context.Context, view *podnetwork.View) error {
	pods, groups, all := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, config := range view.ENIConfigs {
		pods[config.Spec.Subnet], all[config.Spec.Subnet] = true, true
		for _, group := range config.Spec.SecurityGroups {
			groups[group] = true
		}
	}
	for _, nodeClass := range view.NodeClasses {
		for _, s := range nodeClass.Status.Subnets {
			all[s.ID] = true
		}
	}
	var err error
	if view.SecurityGroups, err = cached(r.cache, key("groups", groups), func() (map[string]string, error) { return r.securityGroups(ctx, names(groups)) }); err != nil {
		return err
	}
	if view.Subnets, err = cached(r.cache, key("subnets", all), func() (map[string]podnetwork.Subnet, error) { return r.subnets(ctx, names(all)) }); err != nil {
		return err
	}
	if err := r.podSubnets.Ensure(ctx, names(pods)...); err != nil {
		return err
	}
	view.Subnets = lo.Assign(view.Subnets) // a copy: what is added below must not reach the cache
	for id := range pods {
		subnet, exists := view.Subnets[id]
		if snapshot := r.podSubnets.Ledger.Snapshot(id); exists && snapshot != nil {
			subnet.Capacity, subnet.Aside = snapshot.Capacity, r.podSubnets.Ledger.Room(id).Aside
			view.Subnets[id] = subnet
		}
	}
	return nil
}

func cached[T any](c *cache.Cache, key string, read func() (T, error)) (T, error) {
	if value, ok := c.Get(key); ok {
		return value.(T), nil
	}
	value, err := read()
	if err == nil {
		c.SetDefault(key, value)
	}
	return value, err
}

func names(set map[string]bool) []string {
	sorted := lo.Without(lo.Keys(set), "")
	slices.Sort(sorted)
	return sorted
}

func key(kind string, set map[string]bool) string { return fmt.Sprint(kind, names(set)) }

func (r vpcReader) subnets(ctx context.Context, ids []string) (map[string]podnetwork.Subnet, error) {
	described, err := ec2read.Subnets(ctx, r.ec2, "subnet-id", ids...)
	if err != nil {
		return nil, fmt.Errorf("describing subnets, %w", err)
	}
	found := map[string]podnetwork.Subnet{}
	for _, s := range described {
		if aws.ToString(s.CidrBlock) == "" {
			continue // IPv6 only: no place for IPv4 pods
		}
		cidr, err := netip.ParsePrefix(aws.ToString(s.CidrBlock))
		if err != nil {
			return nil, fmt.Errorf("CIDR of subnet %s, %w", aws.ToString(s.SubnetId), err)
		}
		found[aws.ToString(s.SubnetId)] = podnetwork.Subnet{
			ID: aws.ToString(s.SubnetId), VPC: aws.ToString(s.VpcId), Zone: aws.ToString(s.AvailabilityZone), CIDR: cidr,
			PublicAddresses: aws.ToBool(s.MapPublicIpOnLaunch),
		}
	}
	return found, nil
}

func (r vpcReader) securityGroups(ctx context.Context, ids []string) (map[string]string, error) {
	found, err := ec2read.GroupVPCs(ctx, r.ec2, ids)
	if err != nil {
		return nil, fmt.Errorf("describing security groups, %w", err)
	}
	return found, nil
}
