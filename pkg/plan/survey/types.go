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
	"github.com/aws/karpenter-provider-aws/pkg/providers/pricing"
	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dovetail-dev/dovetail/pkg/plan"
)

// instanceTypes of the Region, where they are offered and what they cost.
func (s *surveyor) instanceTypes(ctx context.Context, cfg aws.Config, api *ec2.Client) error {
	var infos []ec2types.InstanceTypeInfo
	zones := map[ec2types.InstanceType][]string{}
	prices := pricing.NewDefaultProvider(pricing.NewAPI(cfg), api, s.facts.Region, false)
	pricesFrom := "the AWS price list, on demand"
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error {
		pages := ec2.NewDescribeInstanceTypesPaginator(api, &ec2.DescribeInstanceTypesInput{})
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
		pages := ec2.NewDescribeInstanceTypeOfferingsPaginator(api, &ec2.DescribeInstanceTypeOfferingsInput{LocationType: ec2types.LocationTypeAvailabilityZone})
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
