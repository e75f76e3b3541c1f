// SPDX-License-Identifier: Apache-2.0

// Package securitygroups gives the pod ENIs of running nodes the security groups that their ENIConfig has now. A change of
// groups needs no new node: EC2 changes an attached ENI. The agents cannot do it, since those of static allocation have no right to
// call EC2, so the controller that leads does it for the whole cluster.
package securitygroups

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	awsutils "github.com/aws/karpenter-provider-aws/pkg/utils"
	"github.com/samber/lo"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

const (
	// interval between rounds that nothing asked for: somebody may have changed an ENI by hand.
	interval = 5 * time.Minute
	// changesPerRound, changeRate and changeBurst bound what a round takes of EC2's bucket for ModifyNetworkInterfaceAttribute (100, and
	// 5 more a second), which the agents need for each new ENI. When a round left some over, the next comes soon.
	changesPerRound = 100
	changeRate      = rate.Limit(3) // a second
	changeBurst     = 20
	soon            = 5 * time.Second
	// gather nodes that select another ENIConfig at the same time, as new ones do when they learn their zone: one round is for all.
	gather = 2 * time.Second
)

// EC2 is what the controller asks of EC2. An *ec2.Client is one.
type EC2 interface {
	DescribeNetworkInterfaces(context.Context, *ec2.DescribeNetworkInterfacesInput, ...func(*ec2.Options)) (*ec2.DescribeNetworkInterfacesOutput, error)
	ModifyNetworkInterfaceAttribute(context.Context, *ec2.ModifyNetworkInterfaceAttributeInput, ...func(*ec2.Options)) (*ec2.ModifyNetworkInterfaceAttributeOutput, error)
}

// Params of the controller.
type Params struct {
	Client   client.Client
	EC2      EC2
	Cluster  string
	Recorder events.Recorder
	Clock    clock.Clock
}

// Controller changes security groups.
type Controller struct {
	Params
	pace *rate.Limiter
	// refusals of EC2, by PodNetwork. Rounds do not overlap.
	refusals map[string]refusals
}

// NewController returns a controller that is not yet registered.
func NewController(params Params) *Controller {
	return &Controller{Params: params, pace: rate.NewLimiter(changeRate, changeBurst), refusals: map[string]refusals{}}
}

// Register runs the controller in the manager, in the replica that leads. A new node does not wake it: its agent makes the ENIs
// with the groups that hold then.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	all := handler.EnqueueRequestsFromMapFunc(podnetwork.Requests(c.Client, podnetwork.All))
	specChanged := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	return controllerruntime.NewControllerManagedBy(m).
		Named("podnetwork.securitygroups").
		For(&v1alpha1.PodNetwork{}, specChanged).
		Watches(&eniconfig.ENIConfig{}, all, specChanged).
		Watches(&corev1.Node{}, handler.Funcs{UpdateFunc: c.nodeChanged}).
		Complete(reconcile.AsReconciler(m.GetClient(), c))
}

// nodeChanged wakes the round of the node's network when the node selects another ENIConfig. A new node gets many labels, one after the
// other, and each round asks EC2 for all ENIs of the network.
func (c *Controller) nodeChanged(ctx context.Context, e event.UpdateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	key := client.ObjectKey{Name: e.ObjectNew.GetLabels()[v1alpha1.LabelPodNetwork]}
	if key.Name == "" {
		return
	}
	network := &v1alpha1.PodNetwork{}
	if err := c.Client.Get(ctx, key, network); err != nil {
		return // gone, or read again at the next interval
	}
	if podnetwork.ENIConfigOf(network, e.ObjectOld) != podnetwork.ENIConfigOf(network, e.ObjectNew) {
		queue.AddAfter(reconcile.Request{NamespacedName: key}, gather)
	}
}

// Reconcile is one round for the nodes of one PodNetwork. Others write its status too: where the cache had an older one, nothing is
// wrong, and the next round finds the ENIs as this one has left them.
func (c *Controller) Reconcile(ctx context.Context, network *v1alpha1.PodNetwork) (reconcile.Result, error) {
	result, err := c.round(ctx, network)
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: soon}, nil
	}
	return result, err
}

func (c *Controller) round(ctx context.Context, network *v1alpha1.PodNetwork) (reconcile.Result, error) {
	if !network.DeletionTimestamp.IsZero() || network.Spec.Agent == v1alpha1.AgentVPCCNI { // then the ENIs are aws-node's
		delete(c.refusals, network.Name)
		left.DeleteLabelValues(network.Name)
		return reconcile.Result{}, c.write(ctx, network, nil)
	}
	wanted, err := c.wanted(ctx, network)
	if err != nil {
		return reconcile.Result{}, err
	}
	outdated, err := c.outdated(ctx, wanted)
	if err != nil {
		return reconcile.Result{}, err
	}
	round, err := c.change(ctx, network, outdated)
	if err != nil {
		return reconcile.Result{}, err
	}
	left.WithLabelValues(network.Name).Set(float64(round.left + round.refused()))
	if err := c.tell(ctx, network, round); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: c.next(network, round)}, nil
}

// wanted finds the target of each node of the network, by instance. A node whose ENIConfig is missing has none: its ENIs stay
// as they are, and the podnetwork controller says what is missing.
func (c *Controller) wanted(ctx context.Context, network *v1alpha1.PodNetwork) (map[string]target, error) {
	configs := &eniconfig.ENIConfigList{}
	if err := c.Client.List(ctx, configs); err != nil {
		return nil, fmt.Errorf("listing ENIConfigs, %w", err)
	}
	byName := lo.KeyBy(configs.Items, func(e eniconfig.ENIConfig) string { return e.Name })
	nodes := &corev1.NodeList{}
	if err := c.Client.List(ctx, nodes, client.MatchingLabels{v1alpha1.LabelPodNetwork: network.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Nodes, %w", err)
	}
	wanted := map[string]target{}
	for i := range nodes.Items {
		instance, err := awsutils.ParseInstanceID(nodes.Items[i].Spec.ProviderID)
		if err != nil { // the kubelet has not said it yet
			continue
		}
		if config, ok := byName[podnetwork.ENIConfigOf(network, &nodes.Items[i])]; ok {
			wanted[instance] = target{config: config.Name, groups: config.Spec.SecurityGroups}
		}
	}
	return wanted, nil
}

// outcome of a round.
type outcome struct {
	// left counts ENIs for which the round had no time.
	left int
	// failures are what EC2 refused, by target.
	failures map[string]*failure
}

// failure of a target; count is of the ENIs that keep their groups for it.
type failure struct {
	refusal
	config string
	count  int
}

func (o outcome) refused() int {
	return lo.SumBy(slices.Collect(maps.Values(o.failures)), func(f *failure) int { return f.count })
}

// change the ENIs' groups. What EC2 refuses for one ENI of a target it would refuse for the others too, so they are not tried, nor
// again before the refusal's time.
func (c *Controller) change(ctx context.Context, network *v1alpha1.PodNetwork, outdated []podENI) (outcome, error) {
	round, before, now := outcome{failures: map[string]*failure{}}, c.refusals[network.Name], refusals{}
	c.refusals[network.Name] = now
	for changes, i := 0, 0; i < len(outdated); i++ {
		e := outdated[i]
		key := e.wanted.key()
		if failed, ok := round.failures[key]; ok {
			failed.count++
			continue
		}
		if known, ok := before[key]; ok && c.Clock.Now().Before(known.until) {
			now[key] = known
			round.failures[key] = &failure{refusal: known, config: e.wanted.config, count: 1}
			continue
		}
		if changes++; changes > changesPerRound {
			round.left++
			continue
		}
		if err := c.pace.Wait(ctx); err != nil {
			return round, err
		}
		err := c.modify(ctx, e)
		switch reason := eni.Classify(err); {
		case err == nil:
			changed.Inc()
			log.FromContext(ctx).Info("changed the security groups of an ENI", "eni", e.id, "instance", e.instance,
				"ENIConfig", e.wanted.config, "groups", e.wanted.groups, "before", e.groups)
		case reason == eni.Gone, reason == eni.NotReady: // on its way out, or not wholly there yet
		case reason == eni.Throttled:
			round.left += len(outdated) - i
			return round, nil
		default:
			log.FromContext(ctx).Error(err, "changing the security groups of an ENI", "eni", e.id, "ENIConfig", e.wanted.config)
			now[key] = before[key].again(c.Clock.Now(), reason, eni.Brief(err))
			round.failures[key] = &failure{refusal: now[key], config: e.wanted.config, count: 1}
		}
	}
	return round, nil
}

func (c *Controller) modify(ctx context.Context, e podENI) error {
	_, err := c.EC2.ModifyNetworkInterfaceAttribute(ctx, &ec2.ModifyNetworkInterfaceAttributeInput{
		NetworkInterfaceId: aws.String(e.id), Groups: e.wanted.groups,
	})
	if err != nil {
		return fmt.Errorf("setting groups %v of ENI %s, %w", e.wanted.groups, e.id, err)
	}
	return nil
}

// next round.
func (c *Controller) next(network *v1alpha1.PodNetwork, round outcome) time.Duration {
	wait := interval
	if round.left > 0 {
		wait = soon
	}
	for _, refused := range c.refusals[network.Name] {
		wait = min(wait, max(refused.until.Sub(c.Clock.Now()), time.Second))
	}
	return wait
}
