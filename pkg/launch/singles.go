// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"slices"
	"strconv"

	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Where a pod subnet has free addresses but no /28s left, nodes are launched there with single addresses, and with the lower
// max-pods that these allow. Such a launch is one of the same pod network with prefix delegation off: that is all that the
// resolvers are told (OfSingles), and so the node's max-pods, reserved memory, labels, user data and pod ENIs agree.

// SingleAddresses is what a node of an instance type is when it takes a single address in each slot in place of a /28.
type SingleAddresses struct {
	MaxPods int
	Need    podcapacity.Need
}

// SinglesOf an instance type that InstanceTypes resolved for the network with a /28 in each slot, false where the network has no
// such way out: prefix delegation is off already, the type takes no prefixes, or aws-node serves its nodes, which has one setting for all of them.
func SinglesOf(ctx context.Context, network *v1alpha1.PodNetwork, it *cloudprovider.InstanceType) (SingleAddresses, bool) {
	n := nodeNeed(ctx, network, func(label string) string { return it.Requirements.Get(label).Any() }, false)
	if !FallsBack(network) || !n.Prefixes {
		return SingleAddresses{}, false
	}
	n.Prefixes, n.MaxPods = false, podcapacity.SingleMaxPods(n.MaxPods, n.PodENIs, n.IPsPerENI)
	need := n.Most()
	return SingleAddresses{MaxPods: n.MaxPods, Need: need}, need != podcapacity.Need{}
}

// Of the requirements of the instance type makes those that nodes of it with single addresses meet.
func (s SingleAddresses) Of(requirements scheduling.Requirements) scheduling.Requirements {
	return with(requirements, s.requirements()...)
}

// requirements of an offering of single addresses.
func (s SingleAddresses) requirements() []*scheduling.Requirement {
	return []*scheduling.Requirement{
		scheduling.NewRequirement(v1alpha1.LabelMaxPods, corev1.NodeSelectorOpIn, strconv.Itoa(s.MaxPods)),
		scheduling.NewRequirement(v1alpha1.LabelPrefixDelegation, corev1.NodeSelectorOpIn, string(v1alpha1.Disabled)),
	}
}

// FallsBack tells whether the network may launch nodes with single addresses where it would rather have /28s.
func FallsBack(network *v1alpha1.PodNetwork) bool {
	return network.Spec.Addressing.PrefixDelegation != v1alpha1.Disabled && podnetwork.AgentOf(network) == v1alpha1.AgentDovetail
}

// singlesClass is a node class whose nodes are to have single addresses.
type singlesClass struct{ instancetype.NodeClass }

// OfSingles is the node class for launches with single addresses.
func OfSingles(nodeClass instancetype.NodeClass) instancetype.NodeClass {
	return singlesClass{nodeClass}
}

// withSingles is the network for launches with single addresses.
func withSingles(network *v1alpha1.PodNetwork) *v1alpha1.PodNetwork {
	if network == nil {
		return nil
	}
	network = network.DeepCopy()
	network.Spec.Addressing.PrefixDelegation = v1alpha1.Disabled
	return network
}

// of finds the network of a node class, or of one that OfSingles made.
func (f NetworkOf) of(ctx context.Context, nodeClass client.Object) (*v1alpha1.PodNetwork, error) {
	singles, ok := nodeClass.(singlesClass)
	if !ok {
		return f(ctx, nodeClass)
	}
	network, err := f(ctx, singles.NodeClass)
	return withSingles(network), err
}

// modes of an instance type in a listing: with prefixes as InstanceTypes resolved it, and with single addresses where that is all that
// is left.
type modes struct {
	// requirements that hold for nodes of either, in place of the type's own.
	requirements scheduling.Requirements
	// prefixes and singles are what an offering of either requires.
	prefixes, singles []*scheduling.Requirement
	// fewer pods than the type's capacity. Karpenter 1.14 adds an offering's override to the capacity; later ones replace it.
	fewer corev1.ResourceList
}

func modesOf(it *cloudprovider.InstanceType, singles SingleAddresses) *modes {
	in := func(label string, values ...string) *scheduling.Requirement {
		return scheduling.NewRequirement(label, corev1.NodeSelectorOpIn, values...)
	}
	most, fewest := it.Requirements.Get(v1alpha1.LabelMaxPods).Any(), strconv.Itoa(singles.MaxPods)
	m := &modes{
		prefixes: []*scheduling.Requirement{in(v1alpha1.LabelMaxPods, most), in(v1alpha1.LabelPrefixDelegation, string(v1alpha1.Enabled))},
		singles:  singles.requirements(),
		requirements: with(it.Requirements, in(v1alpha1.LabelMaxPods, most, fewest),
			in(v1alpha1.LabelPrefixDelegation, string(v1alpha1.Enabled), string(v1alpha1.Disabled))),
	}
	if less := it.Capacity.Pods().Value() - int64(singles.MaxPods); less > 0 {
		m.fewer = corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(-less, resource.DecimalSI)}
	}
	return m
}

// ofSingles tells whether an offering is one of single addresses on a type that takes prefixes.
func ofSingles(o *cloudprovider.Offering) bool {
	mode, ok := o.Requirements[v1alpha1.LabelPrefixDelegation]
	return ok && mode.Has(string(v1alpha1.Disabled))
}

// Lister is upstream's instance type provider, where a type can have offerings of both kinds.
type Lister struct{ instancetype.Provider }

// listingModes collects, while upstream lists, the types that have offerings of single addresses.
type listingModes map[string]*modes

type listingModesKey struct{}

func listingModesOf(ctx context.Context) listingModes {
	found, _ := ctx.Value(listingModesKey{}).(listingModes)
	return found
}

// List is what Karpenter schedules with. A type that can also be had with single addresses says so in its requirements; its
// offerings say which of them they are. Within a launch the list is of the kind that is launched.
func (l Lister) List(ctx context.Context, nodeClass instancetype.NodeClass) ([]*cloudprovider.InstanceType, error) {
	if h := holding(ctx); h != nil {
		if h.singles {
			nodeClass = OfSingles(nodeClass)
		}
		return l.Provider.List(ctx, nodeClass)
	}
	found := listingModes{}
	list, err := l.Provider.List(context.WithValue(ctx, listingModesKey{}, found), nodeClass)
	if err != nil || len(found) == 0 {
		return list, err
	}
	for _, it := range list { // upstream copies each type for each listing, and shares what is in it
		switch m, ok := found[it.Name]; {
		case !ok:
		case len(it.Requirements) == len(m.requirements):
			it.Requirements = m.requirements
		default: // upstream adds those of a placement group to each listing
			it.Requirements = with(it.Requirements, m.requirements[v1alpha1.LabelMaxPods], m.requirements[v1alpha1.LabelPrefixDelegation])
		}
	}
	return list, nil
}

// Types are the instance types of a node class for launches: as the network would have them, and those that can be had with single
// addresses where it has no room for that, each with the offerings of its kind.
type Types struct {
	Usual, Singles cloudprovider.InstanceTypes
}

// All of both kinds.
func (t Types) All() cloudprovider.InstanceTypes { return slices.Concat(t.Usual, t.Singles) }

// ForLaunch lists both kinds apart.
func (l Lister) ForLaunch(ctx context.Context, nodeClass instancetype.NodeClass) (Types, error) {
	found := listingModes{}
	list, err := l.Provider.List(context.WithValue(ctx, listingModesKey{}, found), nodeClass)
	if err != nil || len(found) == 0 {
		return Types{Usual: list}, err
	}
	resolved, err := l.Provider.List(ctx, OfSingles(nodeClass))
	if err != nil {
		return Types{}, err
	}
	singles := make(map[string]*cloudprovider.InstanceType, len(resolved))
	for _, it := range resolved {
		singles[it.Name] = it
	}
	types := Types{Usual: list}
	for _, it := range list {
		single, ok := singles[it.Name]
		if _, both := found[it.Name]; !both || !ok {
			continue
		}
		own := make(cloudprovider.Offerings, 0, len(it.Offerings))
		for _, o := range it.Offerings {
			if !ofSingles(o) {
				own = append(own, o)
				continue
			}
			plain := *o
			plain.CapacityOverride = nil // the type itself has fewer pods
			single.Offerings = append(single.Offerings, &plain)
		}
		it.Offerings = own
		types.Singles = append(types.Singles, single)
	}
	return types, nil
}
