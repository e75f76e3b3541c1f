// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"cmp"
	"maps"
	"slices"

	"github.com/samber/lo"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Group is a set of instance types that one fleet request may mix.
type Group struct {
	// InstanceTypes with the offerings that are available and that the claim may use.
	InstanceTypes cloudprovider.InstanceTypes
	// Prices by zone, USD per hour: of the cheapest offering.
	Prices map[string]float64
}

// Price of the cheapest offering.
func (g Group) Price() float64 {
	return slices.Min(slices.Collect(maps.Values(g.Prices)))
}

// Names of the group's instance types, sorted.
func (g Group) Names() []string {
	names := lo.Map(g.InstanceTypes, func(it *cloudprovider.InstanceType, _ int) string { return it.Name })
	slices.Sort(names)
	return names
}

func (g *Group) add(it *cloudprovider.InstanceType, usable cloudprovider.Offerings) {
	g.InstanceTypes = append(g.InstanceTypes, withOfferings(it, usable))
	for _, o := range usable {
		zone := o.Zone()
		if known, ok := g.Prices[zone]; !ok || o.Price < known {
			g.Prices[zone] = o.Price
		}
	}
}

// Groups divides the instance types that a NodeClaim may launch into homogeneous groups (the same geometry and
// max-pods), cheapest first. A type that cannot be had now is in no group. A group that does not satisfy the claim's
// minValues is left out: that flexibility is what the user asked for.
func Groups(instanceTypes cloudprovider.InstanceTypes, claim *karpv1.NodeClaim) []Group {
	wanted := wantedBy(claim)
	byShape := map[shape]*Group{}
	for _, it := range instanceTypes {
		usable := wanted.offerings(it)
		if len(usable) == 0 {
			continue
		}
		s := shapeOf(it)
		if byShape[s] == nil {
			byShape[s] = &Group{Prices: map[string]float64{}}
		}
		byShape[s].add(it, usable)
	}
	type candidate struct {
		Group
		price float64
		first string
	}
	var candidates []candidate
	for _, g := range byShape {
		if _, _, err := g.InstanceTypes.SatisfiesMinValues(wanted.requirements); err == nil {
			candidates = append(candidates, candidate{*g, g.Price(), g.Names()[0]})
		}
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.price, b.price), cmp.Compare(a.first, b.first))
	})
	return lo.Map(candidates, func(c candidate, _ int) Group { return c.Group })
}

// Launchable is the one group of all instance types that a NodeClaim may launch, whatever their geometry. It is false when there
// are none.
func Launchable(instanceTypes cloudprovider.InstanceTypes, claim *karpv1.NodeClaim) (Group, bool) {
	wanted, group := wantedBy(claim), Group{Prices: map[string]float64{}}
	for _, it := range instanceTypes {
		if usable := wanted.offerings(it); len(usable) > 0 {
			group.add(it, usable)
		}
	}
	return group, len(group.InstanceTypes) > 0
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
