// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/providers/pricing"
	"github.com/go-logr/logr"
	"github.com/samber/lo"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	coreprovisioning "sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/ec2read"
	"github.com/dovetail-dev/dovetail/pkg/plan"
)

// instanceTypes of the Region that the plan tells of, where they are offered and what they cost.
func (s *surveyor) instanceTypes(ctx context.Context, cfg aws.Config, api *ec2.Client) error {
	var infos []ec2types.InstanceTypeInfo
	zones := map[ec2types.InstanceType][]string{}
	prices := pricing.NewDefaultProvider(pricing.NewAPI(cfg), api, s.facts.Region, false)
	pricesFrom := "the AWS price list, on demand"
	var asked []ec2types.Filter
	if names := typesAsked(s.facts.NodePools, s.facts.Nodes); names != nil {
		asked = []ec2types.Filter{ec2read.Filter("instance-type", names...)}
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error {
		pages := ec2.NewDescribeInstanceTypesPaginator(api, &ec2.DescribeInstanceTypesInput{Filters: asked})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			infos = append(infos, page.InstanceTypes...)
		}
		return nil
	})
	all.Go(func() error {
		pages := ec2.NewDescribeInstanceTypeOfferingsPaginator(api, &ec2.DescribeInstanceTypeOfferingsInput{LocationType: ec2types.LocationTypeAvailabilityZone, Filters: asked})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, o := range page.InstanceTypeOfferings {
				zones[o.InstanceType] = append(zones[o.InstanceType], aws.ToString(o.Location))
			}
		}
		return nil
	})
	all.Go(func() error {
		// Upstream's provider logs what it finds: this is a command, whose output is its report.
		if err := prices.UpdateOnDemandPricing(log.IntoContext(ctx, logr.Discard())); err != nil {
			pricesFrom = "the list in Karpenter (of us-east-1 where it has none of the Region), on demand"
			s.unread("the AWS price list", "", err)
		}
		return nil
	})
	if err := all.Wait(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts.PricesFrom = pricesFrom
	for _, info := range infos {
		price, _ := prices.OnDemandPrice(info.InstanceType)
		offered := zones[info.InstanceType]
		slices.Sort(offered)
		s.facts.InstanceTypes = append(s.facts.InstanceTypes, plan.InstanceType{Info: info, Zones: offered, Price: price})
	}
	return nil
}

// typesAsked are the names of the instance types that a plan tells of, with * for any text: those of the nodes, and those that NodePools
// name by type, family or category. It is nil for all: where a pool takes any, or where they are more than a filter takes.
func typesAsked(pools []karpv1.NodePool, nodes []plan.Node) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.InstanceType)
	}
	for _, pool := range pools {
		if pool.Spec.Template.Spec.NodeClassRef == nil {
			continue // the API server takes none without it, and nothing is planned for it
		}
		of := typesOf(coreprovisioning.NewNodeClaimTemplate(&pool).Requirements)
		if of == nil {
			return nil
		}
		names = append(names, of...)
	}
	slices.Sort(names)
	if names = lo.Compact(slices.Compact(names)); len(names) == 0 || len(names) > ec2read.ValuesPerFilter {
		return nil
	}
	return names
}

// typesOf requirements, the narrowest first; nil for any type.
func typesOf(wants scheduling.Requirements) []string {
	for _, key := range []struct{ label, rest string }{
		{corev1.LabelInstanceTypeStable, ""}, {ec2nodeclass.LabelInstanceFamily, ".*"}, {ec2nodeclass.LabelInstanceCategory, "*"},
	} {
		if want := wants.Get(key.label); want.Operator() == corev1.NodeSelectorOpIn {
			return lo.Map(want.Values(), func(value string, _ int) string { return value + key.rest })
		}
	}
	return nil
}

// Codes of quotas of the service vpc.
const (
	quotaENIs   = "L-DF5E4CA3" // Network interfaces per Region
	quotaBlocks = "L-83CA0A9D" // IPv4 CIDR blocks per VPC
)

func (s *surveyor) quotas(ctx context.Context, cfg aws.Config) error {
	api := servicequotas.NewFromConfig(cfg)
	for code, quota := range map[string]*plan.Quota{quotaENIs: &s.facts.Quotas.ENIs, quotaBlocks: &s.facts.Quotas.BlocksPerVPC} {
		out, err := api.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("vpc"), QuotaCode: aws.String(code)})
		if err != nil {
			return fmt.Errorf("AWS's defaults are taken instead: %w", err)
		}
		if out.Quota != nil && out.Quota.Value != nil {
			s.mu.Lock()
			quota.Limit, quota.Assumed = int(*out.Quota.Value), false
			s.mu.Unlock()
		}
	}
	return nil
}
