// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype/offering"
	"github.com/aws/karpenter-provider-aws/pkg/providers/placementgroup"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Offerings withholds what a pod network cannot serve: zones without a usable ENIConfig, and instance types without an
// ENI for pods. An offering that stays names its zone's ENIConfigs, so that pods and NodePools can ask for one.
type Offerings struct {
	Network NetworkOf
}

var _ offering.OfferingResolver = Offerings{}

// ResolveOfferings never changes an offering in place: upstream caches them.
func (r Offerings) ResolveOfferings(ctx context.Context, it *cloudprovider.InstanceType, offerings cloudprovider.Offerings, _ ec2types.InstanceTypeInfo,
	nodeClass offering.NodeClass, _, _ sets.Set[string], _ *placementgroup.PlacementGroup, _ *offering.ResolveContext) cloudprovider.Offerings {
	if !onPodNetwork(it) {
		return offerings
	}
	network, err := r.Network(ctx, nodeClass)
	if err != nil {
		log.FromContext(ctx).Error(err, "finding the pod network of a node class", "EC2NodeClass", nodeClass.GetName())
		return nil
	}
	if network == nil { // deleted since the type was resolved; the next List resolves it anew
		return offerings
	}
	eniConfigs := lo.GroupByMap(network.Status.Zones, func(z v1alpha1.ZoneStatus) (string, string) { return z.Zone, z.ENIConfig })
	serves := it.Capacity.Pods().Value() > 0
	return lo.Map(offerings, func(o *cloudprovider.Offering, _ int) *cloudprovider.Offering {
		names := eniConfigs[o.Zone()]
		resolved := *o
		resolved.Available = o.Available && serves && len(names) > 0
		if len(names) > 0 {
			resolved.Requirements = scheduling.NewRequirements(o.Requirements.Values()...)
			resolved.Requirements.Add(scheduling.NewRequirement(v1alpha1.LabelENIConfig, corev1.NodeSelectorOpIn, names...))
		}
		return &resolved
	})
}
