// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"context"
	"slices"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// shape of an instance type with a node class: now, by upstream Karpenter, and on the pod network, by the controller's own functions.
type shape struct {
	name       string
	now, after int
	// need of a node, of its pod subnet.
	need podcapacity.Need
	// singles is what it is where only single addresses are left, nil where it is not launched then.
	singles      *launch.SingleAddresses
	requirements scheduling.Requirements
	zones        []string
	price        float64
}

// shapes by node class and instance type.
type shapes struct {
	facts   *Facts
	ctx     context.Context //nolint:containedctx // upstream has its options in one; nothing here waits
	byClass map[string][]shape
}

func newShapes(facts *Facts) *shapes {
	return &shapes{
		facts: facts, byClass: map[string][]shape{},
		ctx: options.ToContext(context.Background(), &options.Options{ReservedENIs: facts.ReservedENIs, VMMemoryOverheadPercent: 0.075}),
	}
}

// unmanaged stands for the node class of nodes that Karpenter does not own: what a NodePool would launch in their place.
var unmanaged = &ec2nodeclass.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: "\x00unmanaged"}, Spec: ec2nodeclass.EC2NodeClassSpec{AMIFamily: lo.ToPtr(ec2nodeclass.AMIFamilyAL2023)}}

// of a node class: all instance types, sorted by name.
func (s *shapes) of(nodeClass *ec2nodeclass.EC2NodeClass) []shape {
	if known, ok := s.byClass[nodeClass.Name]; ok {
		return known
	}
	network := s.facts.Network
	upstream := instancetype.NewDefaultResolver(s.facts.Region)
	ours := launch.InstanceTypes{Upstream: upstream, Network: func(context.Context, client.Object) (*v1alpha1.PodNetwork, error) { return network, nil }}
	zones := lo.Uniq(lo.Map(nodeClass.Status.Subnets, func(s ec2nodeclass.Subnet, _ int) string { return s.Zone }))
	found := make([]shape, 0, len(s.facts.InstanceTypes))
	for _, t := range s.facts.InstanceTypes {
		here := zones
		if t.Zones != nil && len(zones) > 0 {
			if here = lo.Intersect(zones, t.Zones); len(here) == 0 {
				continue // not offered where the node class launches
			}
		}
		now, after := upstream.Resolve(s.ctx, t.Info, here, nodeClass), ours.Resolve(s.ctx, t.Info, here, nodeClass)
		if now == nil || after == nil {
			continue
		}
		var singles *launch.SingleAddresses
		if of, ok := launch.SinglesOf(s.ctx, network, after); ok {
			singles = &of
		}
		found = append(found, shape{
			singles: singles,
			name:    after.Name, now: int(now.Capacity.Pods().Value()), after: int(after.Capacity.Pods().Value()), need: launch.NeedOf(s.ctx, network, after),
			requirements: after.Requirements, zones: here, price: t.Price,
		})
	}
	slices.SortFunc(found, func(a, b shape) int { return lo.Ternary(a.name < b.name, -1, 1) })
	s.byClass[nodeClass.Name] = found
	return found
}

// find an instance type.
func find(all []shape, name string) (shape, bool) {
	i, ok := slices.BinarySearchFunc(all, name, func(s shape, name string) int {
		switch {
		case s.name < name:
			return -1
		case s.name > name:
			return 1
		}
		return 0
	})
	if !ok {
		return shape{}, false
	}
	return all[i], true
}
