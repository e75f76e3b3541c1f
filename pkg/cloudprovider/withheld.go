// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"context"
	"fmt"

	"github.com/samber/lo"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/pretty"
	"sigs.k8s.io/karpenter/pkg/utils/resources"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Withheld says why the pod network stands in the way of a node like the claim's: nobody would serve it, it would have no ENI for
// pods, or which pod subnets could serve it, and what each of them lacks. It is "" where such a node can be had, where no instance type is large enough, and where there is no pod network:
// then the reason is another, and Karpenter gives it.
func (c *CloudProvider) Withheld(ctx context.Context, claim *karpv1.NodeClaim) (network, why string, err error) {
	nodeClass, found, err := c.networkOf(ctx, claim.Spec.NodeClassRef)
	if err != nil || found == nil {
		return "", "", client.IgnoreNotFound(err)
	}
	types, err := c.types(ctx, nodeClass)
	if err != nil {
		return "", "", err
	}
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
	available := lo.SomeBy(types.All(), func(it *cloudprovider.InstanceType) bool {
		return requirements.IsCompatible(it.Requirements, scheduling.AllowUndefinedWellKnownLabels) &&
			resources.Fits(claim.Spec.Resources.Requests, it.Allocatable()) && it.Offerings.Available().HasCompatible(requirements)
	})
	if available {
		return found.Name, "", nil
	}
	if !podnetwork.Launches(found) {
		return found.Name, "nobody would give its pods addresses: " + found.StatusConditions().Get(v1alpha1.ConditionAgentReady).Message, nil
	}
	if names, all := withoutPodENI(requirements, types.All()); all {
		return found.Name, fmt.Sprintf("instance types %s have no network interface for pods: allow others", names), nil
	}
	return found.Name, c.shortage(ctx, found, claim, types), nil
}

// withoutPodENI names the instance types that the requirements allow, if none of them has an ENI for pods: these hold no pod.
func withoutPodENI(requirements scheduling.Requirements, instanceTypes cloudprovider.InstanceTypes) (names string, all bool) {
	allowed := lo.Filter(instanceTypes, func(it *cloudprovider.InstanceType, _ int) bool {
		return requirements.IsCompatible(it.Requirements, scheduling.AllowUndefinedWellKnownLabels)
	})
	all = len(allowed) > 0 && lo.EveryBy(allowed, func(it *cloudprovider.InstanceType) bool { return it.Capacity.Pods().IsZero() })
	return pretty.Slice(lo.Uniq(lo.Map(allowed, func(it *cloudprovider.InstanceType, _ int) string { return it.Name })), 5), all
}
