// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"context"

	"github.com/samber/lo"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"
)

// Withheld says why the pod network stands in the way of a node like the claim's: which pod subnets could serve it, and what each
// of them lacks. It is "" where such a node can be had, where no instance type is large enough, and where there is no pod network:
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
	return found.Name, c.shortage(ctx, found, claim, types), nil
}
