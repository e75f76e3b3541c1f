// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	ekstypes "github.com/aws/aws-sdk-go-v2/service/eks/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/ec2read"
	"github.com/dovetail-dev/dovetail/pkg/plan"
)

const (
	// nodeGroupClusterTag is on instances of managed node groups.
	nodeGroupClusterTag = "eks:cluster-name"
	// ownedByCluster begins the key of a tag on instances that a cluster owns, whoever launched them.
	ownedByCluster = "kubernetes.io/cluster/"
)

// clusterName is what was told, or what a node's instance has in its tags.
func (s *surveyor) clusterName(ctx context.Context, api *ec2.Client) error {
	if s.ClusterName != "" {
		s.facts.ClusterName = s.ClusterName
		return nil
	}
	node, found := lo.Find(s.facts.Nodes, func(n plan.Node) bool { return n.Instance != "" })
	if !found {
		return errors.New("no node is an EC2 instance, whose tags would have the cluster's name: --cluster-name tells it")
	}
	out, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []ec2types.Filter{ec2read.Filter("instance-id", node.Instance)}})
	if err != nil {
		return fmt.Errorf("the cluster's name is not known, --cluster-name tells it: %w", err)
	}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			s.facts.ClusterName = clusterOf(i.Tags)
		}
	}
	if s.facts.ClusterName == "" {
		return fmt.Errorf("instance %s has no tag with the cluster's name: --cluster-name tells it", node.Instance)
	}
	return nil
}

func clusterOf(tags []ec2types.Tag) string {
	for _, key := range []string{ec2nodeclass.EKSClusterNameTagKey, nodeGroupClusterTag} {
		if name := ec2read.Tag(tags, key); name != "" {
			return name
		}
	}
	for _, t := range tags {
		if name, ok := strings.CutPrefix(aws.ToString(t.Key), ownedByCluster); ok && aws.ToString(t.Value) == "owned" {
			return name
		}
	}
	return ""
}

// fargateProfiles of the cluster.
func (s *surveyor) fargateProfiles(ctx context.Context, cfg aws.Config) error {
	api := eks.NewFromConfig(cfg)
	for pages := eks.NewListFargateProfilesPaginator(api, &eks.ListFargateProfilesInput{ClusterName: &s.facts.ClusterName}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, name := range page.FargateProfileNames {
			out, err := api.DescribeFargateProfile(ctx, &eks.DescribeFargateProfileInput{ClusterName: &s.facts.ClusterName, FargateProfileName: &name})
			var gone *ekstypes.ResourceNotFoundException
			switch {
			case errors.As(err, &gone):
				continue
			case err != nil:
				return err
			}
			s.facts.FargateProfiles = append(s.facts.FargateProfiles, plan.FargateProfile{
				Name: name, Subnets: out.FargateProfile.Subnets,
				Selectors: lo.Map(out.FargateProfile.Selectors, func(t ekstypes.FargateProfileSelector, _ int) plan.FargateSelector {
					return plan.FargateSelector{Namespace: aws.ToString(t.Namespace), Labels: t.Labels}
				}),
			})
		}
	}
	return nil
}
