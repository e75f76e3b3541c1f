// SPDX-License-Identifier: Apache-2.0

// Package cloudprovider is upstream's CloudProvider for AWS, with launches and drift that know the pod network.
package cloudprovider

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// fleetsPerLaunch bounds the fleet requests of one Create. Karpenter schedules nothing while a Create is under way, and
// tries again with what is then known to be unavailable.
const fleetsPerLaunch = 3

// CloudProvider decorates upstream's.
type CloudProvider struct {
	cloudprovider.CloudProvider
	// Client reads node classes and node pools.
	Client client.Reader
	// InstanceTypes of a node class.
	InstanceTypes launch.Lister
	// Network of a node class.
	Network launch.NetworkOf
	// Recorder of events.
	Recorder events.Recorder
	// PodSubnets have room for the node, or it is not launched.
	PodSubnets *podsubnet.Reader
	// LeadsSince is when this controller began to launch: older NodeClaims that are not launched may have been under way before.
	LeadsSince func() time.Time

	listing   singleflight.Group
	recalling sync.Mutex
	recalled  bool
	canaries  canaries
}

// Create launches into the cheapest homogeneous group of instance types, and into the next ones when it has no
// capacity, where the pod subnet has room for all that the node can need: that is set aside before EC2 is called. The node carries the pod network's labels from its first moment: they are in its user data.
func (c *CloudProvider) Create(ctx context.Context, claim *karpv1.NodeClaim) (*karpv1.NodeClaim, error) {
	claim = withENIConfigLabel(claim)
	nodeClass, network, err := c.networkOf(ctx, claim.Spec.NodeClassRef)
	if client.IgnoreNotFound(err) != nil {
		return nil, cloudprovider.NewCreateError(fmt.Errorf("resolving the pod network, %w", err), "PodNetworkResolutionFailed", "Error resolving the pod network")
	}
	if network == nil { // none, or no node class: upstream says so on the NodeClaim
		return c.CloudProvider.Create(ctx, claim)
	}
	return c.launch(ctx, onNetwork(claim, network), nodeClass, network)
}

func (c *CloudProvider) launch(ctx context.Context, claim *karpv1.NodeClaim, nodeClass *ec2nodeclass.EC2NodeClass, network *v1alpha1.PodNetwork) (*karpv1.NodeClaim, error) {
	if err := c.prepare(ctx, network); err != nil {
		return nil, cloudprovider.NewCreateError(fmt.Errorf("counting the room of pod subnets, %w", err), "PodSubnetsUnknown", "Error reading the pod subnets")
	}
	listed := time.Now()
	types, err := c.types(ctx, nodeClass)
	if err != nil {
		return nil, cloudprovider.NewCreateError(fmt.Errorf("resolving instance types, %w", err), "InstanceTypeResolutionFailed", "Error resolving instance types")
	}
	options := optionsOf(types, claim, network)
	var failures []error
	fleets := 0
	for _, option := range options {
		need := launch.MostOf(ctx, network, option.InstanceTypes)
		for _, zones := range c.attempts(network, claim, option.Group, need) {
			if fleets == fleetsPerLaunch {
				return nil, cloudprovider.NewInsufficientCapacityError(errors.Join(failures...))
			}
			shortages := c.shortages(ctx, network, types, option, zones)
			places, refusals := c.PodSubnets.Ledger.Reserve(ctx, podnetwork.Request{Owner: claim.Name, Need: need, Zones: zones})
			if len(places) == 0 {
				for _, refusal := range refusals {
					failures = append(failures, fmt.Errorf("%s: %s", refusal.Place, refusal.Reason))
				}
				continue
			}
			fleets++
			created, err := c.launchAt(launch.FromListing(ctx, option.InstanceTypes, listed), network, option, places)
			if err == nil {
				log.FromContext(ctx).V(1).Info("launched on a pod network", "group", option.Names(), "singleAddresses", option.singles, "groups", len(options), "fleets", fleets)
				if option.singles {
					c.tellSingles(network, types, claim, created, shortages)
				} else {
					c.tellLowered(nodeClass, network, created)
				}
				return created, nil
			}
			if !cloudprovider.IsInsufficientCapacityError(err) {
				return nil, err
			}
			failures = append(failures, err)
		}
	}
	if len(failures) == 0 {
		failures = append(failures, c.nothingToLaunch(ctx, network, claim, types))
	}
	return nil, cloudprovider.NewInsufficientCapacityError(errors.Join(failures...))
}

// prepare what a launch decides from: every pod subnet was read, and nodes from before this controller's time are known.
func (c *CloudProvider) prepare(ctx context.Context, network *v1alpha1.PodNetwork) error {
	subnets := lo.Map(network.Status.Zones, func(z v1alpha1.ZoneStatus, _ int) string { return z.Subnet })
	if err := c.PodSubnets.Ensure(ctx, subnets...); err != nil {
		return err
	}
	return c.recall(ctx)
}

// option is one way to launch a claim.
type option struct {
	launch.Group
	// claim narrowed to it.
	claim *karpv1.NodeClaim
	// singles: with single addresses in place of /28s.
	singles bool
}

// optionsOf a launch, best first: those with single addresses only after all others.
func optionsOf(types launch.Types, claim *karpv1.NodeClaim, network *v1alpha1.PodNetwork) []option {
	options := lo.Map(groupsOf(types.Usual, claim, network), func(group launch.Group, _ int) option {
		return option{Group: group, claim: narrowed(claim, group, network)}
	})
	return append(options, lo.Map(groupsOf(types.Singles, claim, network), func(group launch.Group, _ int) option {
		own := narrowed(claim, group, network).DeepCopy()
		own.Labels = lo.Assign(own.Labels, map[string]string{v1alpha1.LabelPrefixDelegation: string(v1alpha1.Disabled)})
		return option{Group: group, claim: own, singles: true}
	})...)
}

func groupsOf(instanceTypes cloudprovider.InstanceTypes, claim *karpv1.NodeClaim, network *v1alpha1.PodNetwork) []launch.Group {
	if network.Spec.InstanceTypes != v1alpha1.Flexible {
		return launch.Groups(instanceTypes, claim)
	}
	if group, ok := launch.Launchable(instanceTypes, claim); ok {
		return []launch.Group{group}
	}
	return nil
}

func narrowed(claim *karpv1.NodeClaim, group launch.Group, network *v1alpha1.PodNetwork) *karpv1.NodeClaim {
	if network.Spec.InstanceTypes == v1alpha1.Flexible {
		return claim
	}
	return narrowTo(claim, group)
}

func (c *CloudProvider) nothingToLaunch(ctx context.Context, network *v1alpha1.PodNetwork, claim *karpv1.NodeClaim, types launch.Types) error {
	if text := c.shortage(ctx, network, claim, types); text != "" {
		return errors.New(text)
	}
	if network.Spec.InstanceTypes == v1alpha1.Flexible {
		return fmt.Errorf("no instance type on pod network %s is available and satisfies the NodeClaim's requirements", network.Name)
	}
	return fmt.Errorf("no group of instance types with the same pod capacity on pod network %s is available and satisfies the NodeClaim's requirements; set spec.instanceTypes: Flexible to mix them", network.Name)
}

// types of a node class, for reading. Hundreds of launches begin at once after a restart or when many pods arrive. If
// each of them found upstream's cache empty and computed all instance types for itself, that would keep a small machine
// busy for longer than the leader's lease lasts. So one does, and the others wait for it.
func (c *CloudProvider) types(ctx context.Context, nodeClass *ec2nodeclass.EC2NodeClass) (launch.Types, error) {
	types, err, _ := c.listing.Do(nodeClass.Name+"@"+nodeClass.ResourceVersion, func() (any, error) {
		return c.InstanceTypes.ForLaunch(ctx, nodeClass)
	})
	if err != nil {
		return launch.Types{}, err
	}
	return types.(launch.Types), nil
}

func (c *CloudProvider) networkOf(ctx context.Context, ref *karpv1.NodeClassReference) (*ec2nodeclass.EC2NodeClass, *v1alpha1.PodNetwork, error) {
	if ref == nil {
		return nil, nil, nil
	}
	nodeClass := &ec2nodeclass.EC2NodeClass{}
	if err := c.Client.Get(ctx, types.NamespacedName{Name: ref.Name}, nodeClass); err != nil {
		return nil, nil, fmt.Errorf("getting EC2NodeClass %s, %w", ref.Name, err)
	}
	network, err := c.Network(ctx, nodeClass)
	if err != nil {
		return nil, nil, fmt.Errorf("finding the pod network of EC2NodeClass %s, %w", ref.Name, err)
	}
	return nodeClass, network, nil
}

// withENIConfigLabel keeps the meaning of a requirement that leaves one ENIConfig: the label is well-known here, so
// Karpenter does not put it on the node by itself as it does for a user's own labels.
func withENIConfigLabel(claim *karpv1.NodeClaim) *karpv1.NodeClaim {
	required, found := lo.Find(claim.Spec.Requirements, func(r karpv1.NodeSelectorRequirementWithMinValues) bool {
		return r.Key == v1alpha1.LabelENIConfig && r.Operator == corev1.NodeSelectorOpIn && len(r.Values) == 1
	})
	if !found {
		return claim
	}
	claim = claim.DeepCopy()
	claim.Labels = lo.Assign(map[string]string{v1alpha1.LabelENIConfig: required.Values[0]}, claim.Labels)
	return claim
}

func onNetwork(claim *karpv1.NodeClaim, network *v1alpha1.PodNetwork) *karpv1.NodeClaim {
	claim = claim.DeepCopy()
	claim.Labels = lo.Assign(claim.Labels, map[string]string{
		v1alpha1.LabelPodNetwork: network.Name, v1alpha1.LabelAgent: string(podnetwork.AgentOf(network)),
		v1alpha1.LabelAllocation: string(v1alpha1.AllocationDynamic), // a launch with pod ENIs says otherwise
	})
	return claim
}

// narrowTo leaves the claim only the group's instance types, and gives it the labels that all of them share.
func narrowTo(claim *karpv1.NodeClaim, group launch.Group) *karpv1.NodeClaim {
	claim = claim.DeepCopy()
	required, i, found := lo.FindIndexOf(claim.Spec.Requirements, func(r karpv1.NodeSelectorRequirementWithMinValues) bool {
		return r.Key == corev1.LabelInstanceTypeStable
	})
	required.Key, required.Operator, required.Values = corev1.LabelInstanceTypeStable, corev1.NodeSelectorOpIn, group.Names()
	if found {
		claim.Spec.Requirements[i] = required
	} else {
		claim.Spec.Requirements = append(claim.Spec.Requirements, required)
	}
	claim.Labels = lo.Assign(claim.Labels, group.Labels())
	return claim
}
