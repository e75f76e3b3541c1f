// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Group is a set of instance types that one fleet request may mix.
type Group struct {
	InstanceTypes cloudprovider.InstanceTypes
	// Price of the cheapest available offering, USD per hour.
	Price float64
}

// Names of the group's instance types, sorted.
func (g Group) Names() []string {
	names := lo.Map(g.InstanceTypes, func(it *cloudprovider.InstanceType, _ int) string { return it.Name })
	slices.Sort(names)
	return names
}

// Groups divides the instance types that a NodeClaim may launch into homogeneous groups (the same geometry and
// max-pods), cheapest first. A type that cannot be had now is in no group. A group that does not satisfy the claim's
// minValues is left out: that flexibility is what the user asked for.
func Groups(instanceTypes cloudprovider.InstanceTypes, claim *karpv1.NodeClaim) []Group {
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
	byShape := map[shape]*Group{}
	for _, it := range instanceTypes {
		price, ok := launchable(it, requirements, claim.Spec.Resources.Requests)
		if !ok {
			continue
		}
		group, ok := byShape[shapeOf(it)]
		if !ok {
			group = &Group{Price: math.Inf(1)}
			byShape[shapeOf(it)] = group
		}
		group.InstanceTypes = append(group.InstanceTypes, it)
		group.Price = min(group.Price, price)
	}
	groups := lo.FilterMap(slices.Collect(maps.Values(byShape)), func(g *Group, _ int) (Group, bool) {
		_, _, err := g.InstanceTypes.SatisfiesMinValues(requirements)
		return *g, err == nil
	})
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Price, b.Price), cmp.Compare(a.Names()[0], b.Names()[0]))
	})
	return groups
}

// Launchable is the one group of all instance types that a NodeClaim may launch, whatever their geometry. It is false when there
// are none.
func Launchable(instanceTypes cloudprovider.InstanceTypes, claim *karpv1.NodeClaim) (Group, bool) {
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
	group := Group{Price: math.Inf(1)}
	for _, it := range instanceTypes {
		if price, ok := launchable(it, requirements, claim.Spec.Resources.Requests); ok {
			group.InstanceTypes, group.Price = append(group.InstanceTypes, it), min(group.Price, price)
		}
	}
	return group, len(group.InstanceTypes) > 0
}

// launchable returns the price of the cheapest offering that the claim may use.
func launchable(it *cloudprovider.InstanceType, requirements scheduling.Requirements, requests corev1.ResourceList) (float64, bool) {
	if !requirements.IsCompatible(it.Requirements, scheduling.AllowUndefinedWellKnownLabels) || !resources.Fits(requests, it.Allocatable()) {
		return 0, false
	}
	offerings := it.Offerings.Available().Compatible(requirements)
	if len(offerings) == 0 {
		return 0, false
	}
	return offerings.Cheapest().Price, true
}

// Labels that every instance type of a homogeneous group gives its node.
func (g Group) Labels() map[string]string {
	if len(g.InstanceTypes) == 0 {
		return nil
	}
	labels := map[string]string{}
	for _, label := range v1alpha1.Labels() {
		if values := g.InstanceTypes[0].Requirements.Get(label); values.Len() == 1 {
			labels[label] = values.Any()
		}
	}
	return labels
}
