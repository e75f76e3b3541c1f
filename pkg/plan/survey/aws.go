// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/samber/lo"
	"golang.org/x/sync/errgroup"

	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/ec2read"
)

func (s *surveyor) readAWS(ctx context.Context) error {
	if s.AWS == nil {
		return errors.New("AWS was not to be asked")
	}
	s.facts.Region = s.region()
	cfg, err := s.AWS(ctx, s.facts.Region)
	if err != nil {
		return err
	}
	s.facts.Region = cmp.Or(s.facts.Region, cfg.Region)
	if s.facts.Region == "" {
		return errors.New("no node tells its zone, and the AWS configuration no Region: set AWS_REGION")
	}
	api := ec2.NewFromConfig(cfg)
	nameless := s.clusterName(ctx, api)
	// What takes no other's answer is asked at once: instance types and prices are a few dozen pages each.
	var all errgroup.Group
	for _, read := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"the VPC", func(ctx context.Context) error { return s.vpc(ctx, api) }},
		{"instance types and their prices", func(ctx context.Context) error { return s.instanceTypes(ctx, cfg, api) }},
		{"how many ENIs the Region has", func(ctx context.Context) error { return s.countENIs(ctx, api) }},
		{"the account's quotas (Service Quotas)", func(ctx context.Context) error { return s.quotas(ctx, cfg) }},
	} {
		all.Go(func() error {
			if err := read.do(ctx); err != nil {
				s.unread(read.what, "", err)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	profiles := nameless
	if s.facts.ClusterName != "" { // the pod subnets' tags may have it, too
		profiles = s.fargateProfiles(ctx, cfg)
	}
	if profiles != nil {
		s.unread("Fargate profiles", "", profiles)
	}
	return nil
}

// region of the cluster. It is not the one that the environment names: that may be another cluster's.
func (s *surveyor) region() string {
	for _, n := range s.facts.Nodes {
		if region := cli.Region(n.Zone); region != "" {
			return region
		}
	}
	for _, c := range s.facts.NodeClasses {
		for _, subnet := range c.Status.Subnets {
			if region := cli.Region(subnet.Zone); region != "" {
				return region
			}
		}
	}
	return ""
}

// nodeSubnets by the node classes, and where none tells, by the instance of a node of each zone and pool.
func (s *surveyor) nodeSubnets(ctx context.Context, api *ec2.Client) ([]string, error) {
	var ids []string
	for _, c := range s.facts.NodeClasses {
		for _, subnet := range c.Status.Subnets {
			ids = append(ids, subnet.ID)
		}
	}
	if len(ids) > 0 {
		slices.Sort(ids)
		return slices.Compact(ids), nil
	}
	type place struct{ zone, pool string }
	one := map[place]string{}
	for _, n := range s.facts.Nodes {
		if n.Instance != "" {
			one[place{n.Zone, n.NodePool}] = n.Instance
		}
	}
	if len(one) == 0 {
		return nil, errors.New("no EC2NodeClass has resolved subnets, and no node is an EC2 instance: nothing tells the VPC")
	}
	for chunk := range slices.Chunk(lo.Values(one), ec2read.ValuesPerFilter) {
		pages := ec2.NewDescribeInstancesPaginator(api, &ec2.DescribeInstancesInput{Filters: []ec2types.Filter{ec2read.Filter("instance-id", chunk...)}})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, r := range page.Reservations {
				for _, i := range r.Instances {
					ids = append(ids, aws.ToString(i.SubnetId))
				}
			}
		}
	}
	if ids = lo.Compact(ids); len(ids) == 0 {
		return nil, errors.New("EC2 shows none of the nodes' instances: are these credentials of the cluster's account?")
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

func (s *surveyor) countENIs(ctx context.Context, api *ec2.Client) error {
	count := 0
	pages := ec2.NewDescribeNetworkInterfacesPaginator(api, &ec2.DescribeNetworkInterfacesInput{MaxResults: aws.Int32(1000)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		count += len(page.NetworkInterfaces)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts.Quotas.ENIs.Used = count
	return nil
}
