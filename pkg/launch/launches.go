// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"fmt"
	"sync"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instance"
	"github.com/aws/karpenter-provider-aws/pkg/providers/subnet"
	"github.com/patrickmn/go-cache"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Launches of static allocation that are under way. Upstream hands one node class object through all seams of a launch, from
// the choice of node subnets (Subnets) to the launch template (Templates), and not all of them get a context: so that
// object is the launch's name. What upstream does with launch templates outside of a launch (its dry runs) is not here, and
// stays as upstream has it.
type Launches struct {
	underWay sync.Map // *ec2nodeclass.EC2NodeClass -> *staticLaunch
	// templates with pod ENIs by name: staticTemplate.
	templates *cache.Cache
}

// templateTTL outlasts a fleet request by far; each launch names its templates anew.
const templateTTL = 10 * time.Minute

// NewLaunches returns an empty one.
func NewLaunches() *Launches { return &Launches{templates: cache.New(templateTTL, templateTTL)} }

// staticLaunch is used by one goroutine at a time.
type staticLaunch struct {
	network *v1alpha1.PodNetwork
	// held are the places that the launch holds room in, nil where it holds none.
	held *held
	// securityGroups of ENIConfigs, by name.
	securityGroups map[string][]string
	// publicAddresses are the node subnets that give them.
	publicAddresses map[string]bool
	// nodeSubnets by zone, as upstream has chosen for this launch.
	nodeSubnets map[string]string
	// places by zone, as decided.
	places map[string]staticPlace
	// everywhere is an obstacle in all zones.
	everywhere *podnetwork.Obstacle
	// refused is why no zone can do what the NodeClaim requires.
	refused *podnetwork.Obstacle
}

// of returns the launch that carries the node class object, nil when it is none of static allocation.
func (l *Launches) of(nodeClass *ec2nodeclass.EC2NodeClass) *staticLaunch {
	if l == nil {
		return nil
	}
	found, ok := l.underWay.Load(nodeClass)
	if !ok {
		return nil
	}
	return found.(*staticLaunch)
}

// Instances is upstream's instance provider, with launches of static allocation noted in Launches while they run.
type Instances struct {
	instance.Provider
	Launches *Launches
	Network  NetworkOf
	// Client reads ENIConfigs.
	Client   client.Reader
	Subnets  subnet.Provider
	Recorder events.Recorder
}

// Create says on the NodeClaim when the launch was to be static and is not.
func (i Instances) Create(ctx context.Context, nodeClass *ec2nodeclass.EC2NodeClass, claim *karpv1.NodeClaim, tags map[string]string, instanceTypes []*cloudprovider.InstanceType) (*instance.Instance, error) {
	ctx = launchedFor(ctx, claim)
	network, err := i.Network(ctx, nodeClass)
	if err != nil {
		return nil, fmt.Errorf("finding the pod network of EC2NodeClass %s, %w", nodeClass.Name, err)
	}
	if h := holding(ctx); h != nil && h.singles {
		network = withSingles(network)
	}
	if network == nil || network.Spec.Addressing.Allocation != v1alpha1.AllocationStatic {
		return i.Provider.Create(ctx, nodeClass, claim, tags, instanceTypes)
	}
	launch, err := i.begin(ctx, network, nodeClass)
	if err != nil {
		return nil, err
	}
	own := *nodeClass // an object that is no other launch's
	i.Launches.underWay.Store(&own, launch)
	defer i.Launches.underWay.Delete(&own)
	launched, err := i.Provider.Create(ctx, &own, claim, tags, instanceTypes)
	if err != nil {
		if launch.refused != nil { // upstream's error says nothing of why there is no template
			err = cloudprovider.NewInsufficientCapacityError(fmt.Errorf("the NodeClaim requires %s %s: %s", v1alpha1.LabelAllocation, v1alpha1.AllocationStatic, launch.refused.Message))
		}
		return nil, err
	}
	place := launch.places[launched.Zone]
	Decided(ctx, place.labels)
	if place.obstacle != nil && place.obstacle.Reason != ReasonDynamicRequired {
		fallbacks.WithLabelValues(place.obstacle.Reason).Inc()
		i.Recorder.Publish(unavailable(claim, *place.obstacle))
	}
	return launched, nil
}

func (i Instances) begin(ctx context.Context, network *v1alpha1.PodNetwork, nodeClass *ec2nodeclass.EC2NodeClass) (*staticLaunch, error) {
	configs := &eniconfig.ENIConfigList{}
	if err := i.Client.List(ctx, configs); err != nil {
		return nil, fmt.Errorf("listing ENIConfigs, %w", err)
	}
	subnets, err := i.Subnets.List(ctx, nodeClass) // from upstream's cache
	if err != nil {
		return nil, err
	}
	return &staticLaunch{
		network: network, held: holding(ctx), securityGroups: groupsByName(configs.Items),
		publicAddresses: lo.SliceToMap(subnets, func(s ec2types.Subnet) (string, bool) {
			return aws.ToString(s.SubnetId), aws.ToBool(s.MapPublicIpOnLaunch)
		}),
	}, nil
}

// StaticAllocationUnavailable is the event on a NodeClaim whose node allocates dynamically on a network of static allocation.
const StaticAllocationUnavailable = "StaticAllocationUnavailable"

func unavailable(claim *karpv1.NodeClaim, obstacle podnetwork.Obstacle) events.Event {
	return events.Event{
		InvolvedObject: claim, Type: corev1.EventTypeWarning, Reason: StaticAllocationUnavailable,
		Message:      fmt.Sprintf("Launched with dynamic allocation (%s): %s", obstacle.Reason, obstacle.Message),
		DedupeValues: []string{string(claim.UID), obstacle.Reason},
	}
}

// Outcome is what a launch decided for the node that it made.
type Outcome struct {
	// Labels that the node's user data has on top of the NodeClaim's. They win over the NodeClaim's.
	Labels map[string]string
}

type outcomeKey struct{}

// WithOutcome returns a context in which a launch leaves its outcome.
func WithOutcome(ctx context.Context) (context.Context, *Outcome) {
	outcome := &Outcome{}
	return context.WithValue(ctx, outcomeKey{}, outcome), outcome
}

// Decided leaves the labels of the node that was launched for whoever waits for the outcome.
func Decided(ctx context.Context, labels map[string]string) {
	if outcome, ok := ctx.Value(outcomeKey{}).(*Outcome); ok {
		outcome.Labels = labels
	}
}
