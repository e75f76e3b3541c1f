// SPDX-License-Identifier: Apache-2.0

// Package podnetwork keeps the status of PodNetworks: which zones can take nodes, what stands in the way of the others,
// how much room the pod subnets have, and how many nodes are outdated. Launches read the zones from there.
package podnetwork

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/awslabs/operatorpkg/status"
	"github.com/patrickmn/go-cache"
	"github.com/samber/lo"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// refreshInterval is how often everything is looked at again: VPCs change without an event.
const refreshInterval = time.Minute

// Params of the controller.
type Params struct {
	Client client.Client
	EC2    EC2
	// PodSubnets is asked what is free in them.
	PodSubnets *podsubnet.Reader
	Recorder   events.Recorder
	Clock      clock.Clock
	// IPFamily of the cluster, by default IPv4; see ClusterFamily.
	IPFamily corev1.IPFamily
	// ReservedENIs are those that max-pods leaves to others (RESERVED_ENIS).
	ReservedENIs int
}

// Controller reconciles PodNetworks.
type Controller struct {
	Params
	vpc    vpcReader
	drifts drifts
}

// NewController returns a controller that is not yet registered.
func NewController(params Params) *Controller {
	return &Controller{Params: params, vpc: vpcReader{ec2: params.EC2, podSubnets: params.PodSubnets, cache: cache.New(describeTTL, describeTTL)}}
}

// Register starts the controller with the manager. Everything that bears on a PodNetwork wakes all of them: there are few.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	if err := c.expose(crmetrics.Registry); err != nil {
		return err
	}
	all := handler.EnqueueRequestsFromMapFunc(podnetwork.Requests(c.Client, podnetwork.All))
	return controllerruntime.NewControllerManagedBy(m).
		Named("podnetwork").
		For(&v1alpha1.PodNetwork{}).
		Watches(&ec2nodeclass.EC2NodeClass{}, all).
		Watches(&eniconfig.ENIConfig{}, all).
		Watches(&karpv1.NodePool{}, all).
		Watches(&karpv1.NodeClaim{}, all).
		Watches(&appsv1.DaemonSet{}, all, builder.WithPredicates(vpcCNI)).
		WatchesRawSource(source.Func(c.readings)).
		Complete(reconcile.AsReconciler(m.GetClient(), c))
}

// readings wake the networks when a pod subnet was read and its figures have changed. They come at most every ten seconds or so,
// however busy the cluster is, and a status that shows the same is not written.
func (c *Controller) readings(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-c.PodSubnets.Changed():
			}
			for _, request := range podnetwork.Requests(c.Client, podnetwork.All)(ctx, nil) {
				queue.Add(request)
			}
		}
	}()
	return nil
}

// Reconcile writes the network's status in one patch.
func (c *Controller) Reconcile(ctx context.Context, network *v1alpha1.PodNetwork) (reconcile.Result, error) {
	if !network.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil
	}
	stored := network.DeepCopy()
	view, err := c.view(ctx, network)
	if err != nil {
		network.StatusConditions().SetUnknownWithReason(v1alpha1.ConditionSubnetsReady, "ReadingFailed", err.Error())
		return reconcile.Result{}, lo.CoalesceOrEmpty(c.patch(ctx, network, stored), err)
	}
	resolution := podnetwork.Resolve(network, view)
	network.Status.Zones = resolution.Zones
	claims, err := c.claims(ctx, network, view.NodeClasses)
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := c.migrateHashes(ctx, network, claims); err != nil {
		return reconcile.Result{}, err
	}
	network.Status.Nodes = count(claims)
	c.drifts.set(network.Name, claims)
	if err := c.countPods(ctx, network); err != nil {
		return reconcile.Result{}, err
	}
	conflict, err := c.conflict(ctx, network, view.NodeClasses)
	if err != nil {
		return reconcile.Result{}, err
	}
	if conflict != nil {
		resolution.Problems = append(resolution.Problems, *conflict)
	}
	agent, err := c.agent(ctx, network, view.NodeClasses)
	if err != nil {
		return reconcile.Result{}, err
	}
	resolution.Problems = append(resolution.Problems, agent.problems...)
	if err := setConfigured(network.StatusConditions(), agent); err != nil {
		return reconcile.Result{}, err
	}
	c.setStatic(network, view)
	setConditions(network, resolution)
	if err := c.patch(ctx, network, stored); err != nil {
		return reconcile.Result{}, err
	}
	// Not before the cache has what was written: Karpenter's check of a node reads it there.
	if equality.Semantic.DeepEqual(stored.Status, network.Status) {
		if err := c.wakeDriftChecks(ctx, network, claims); err != nil {
			return reconcile.Result{}, err
		}
	}
	c.publish(network, view, resolution)
	c.publishSettings(network, agent)
	if err := c.warnNodePools(ctx, network, view); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: lo.Ternary(c.settled(network) && !view.Provisioning, refreshInterval, settling)}, nil
}

// patch writes the status where it differs.
func (c *Controller) patch(ctx context.Context, network, stored *v1alpha1.PodNetwork) error {
	if equality.Semantic.DeepEqual(stored.Status, network.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})
	err := c.Client.Status().Patch(ctx, network, patch)
	// On a conflict the cache had an older network: the newer one, mostly this controller's own, is coming and wakes it again.
	if err != nil && !apierrors.IsConflict(err) {
		return client.IgnoreNotFound(fmt.Errorf("writing the status of PodNetwork %s, %w", network.Name, err))
	}
	return nil
}

// view gathers what the resolution decides from.
func (c *Controller) view(ctx context.Context, network *v1alpha1.PodNetwork) (podnetwork.View, error) {
	view := podnetwork.View{IPv6: c.IPFamily == corev1.IPv6Protocol, Provisioning: c.provisioning(network)}
	nodeClasses := &ec2nodeclass.EC2NodeClassList{}
	if err := c.Client.List(ctx, nodeClasses); err != nil {
		return view, fmt.Errorf("listing EC2NodeClasses, %w", err)
	}
	for _, nodeClass := range nodeClasses.Items {
		selected, err := podnetwork.Selects(network, &nodeClass)
		if err != nil {
			return view, err
		}
		if selected {
			view.NodeClasses = append(view.NodeClasses, nodeClass)
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(&network.Spec.ENIConfigs.Selector)
	if err != nil {
		return view, fmt.Errorf("spec.eniConfigs.selector, %w", err)
	}
	configs := &eniconfig.ENIConfigList{}
	if err := c.Client.List(ctx, configs); err != nil {
		return view, fmt.Errorf("listing ENIConfigs, %w", err)
	}
	view.ENIConfigs = lo.Filter(configs.Items, func(config eniconfig.ENIConfig, _ int) bool {
		return selector.Matches(labels.Set(config.Labels))
	})
	return view, c.vpc.read(ctx, &view)
}

// conflict tells of another PodNetwork that serves one of the node classes too.
func (c *Controller) conflict(ctx context.Context, network *v1alpha1.PodNetwork, nodeClasses []ec2nodeclass.EC2NodeClass) (*podnetwork.Problem, error) {
	networks := &v1alpha1.PodNetworkList{}
	if err := c.Client.List(ctx, networks); err != nil {
		return nil, fmt.Errorf("listing PodNetworks, %w", err)
	}
	for _, nodeClass := range nodeClasses {
		serving := podnetwork.Serving(networks.Items, &nodeClass)
		if len(serving) < 2 || !slices.ContainsFunc(serving, func(n *v1alpha1.PodNetwork) bool { return n.Name == network.Name }) {
			continue
		}
		names := lo.Map(serving, func(n *v1alpha1.PodNetwork, _ int) string { return n.Name })
		return &podnetwork.Problem{
			Condition: v1alpha1.ConditionENIConfigsReady, Reason: "NodeClassConflict",
			Message: fmt.Sprintf("EC2NodeClass %s is selected by PodNetworks %v: %s, the oldest, serves it; change spec.nodeClassSelector of the others", nodeClass.Name, names, names[0]),
		}, nil
	}
	return nil, nil
}

func setConditions(network *v1alpha1.PodNetwork, resolution podnetwork.Resolution) {
	conditions := network.StatusConditions()
	for _, condition := range []string{v1alpha1.ConditionENIConfigsReady, v1alpha1.ConditionSubnetsReady, v1alpha1.ConditionAgentReady} {
		problems := lo.Filter(resolution.Problems, func(p podnetwork.Problem, _ int) bool { return p.Condition == condition })
		if len(problems) == 0 {
			conditions.SetTrue(condition)
			continue
		}
		conditions.SetFalse(condition, problems[0].Reason, joinMessages(problems))
	}
	setCapacity(conditions, network)
	if network.Status.Nodes.Outdated > 0 {
		conditions.SetFalse(v1alpha1.ConditionMigrationComplete, "NodesOutdated",
			fmt.Sprintf("%d of %d nodes were launched with other settings; Karpenter replaces them under the NodePools' disruption budgets%s",
				network.Status.Nodes.Outdated, network.Status.Nodes.Total, lo.Ternary(len(resolution.Problems) > 0, " once the pod network is Ready", "")))
	} else {
		conditions.SetTrue(v1alpha1.ConditionMigrationComplete)
	}
	// kubectl get shows Ready's reason: the thing to mend says more than the name of a condition. Last, because each of the
	// others sets Ready anew.
	if len(resolution.Problems) > 0 {
		conditions.SetFalse(status.ConditionReady, resolution.Problems[0].Reason, joinMessages(resolution.Problems))
	}
}

// ReasonSingleAddresses of ConditionCapacityAvailable: some pod subnets have no /28 left, and nodes get single addresses there.
const ReasonSingleAddresses = "SingleAddresses"

func setCapacity(conditions status.ConditionSet, network *v1alpha1.PodNetwork) {
	disabled := network.Spec.Addressing.PrefixDelegation == v1alpha1.Disabled
	blocks := func(z v1alpha1.ZoneStatus) bool { return z.FreePrefixes > z.CommittedPrefixes }
	addresses := func(z v1alpha1.ZoneStatus) bool { return z.FreeAddresses > z.CommittedAddresses }
	fallback := lo.Filter(network.Status.Zones, func(z v1alpha1.ZoneStatus, _ int) bool {
		return launch.FallsBack(network) && !blocks(z) && addresses(z)
	})
	switch {
	case len(fallback) > 0:
		conditions.SetTrueWithReason(v1alpha1.ConditionCapacityAvailable, ReasonSingleAddresses, fmt.Sprintf(
			"no free /28 that is not set aside for a node is left in %s: nodes are launched with single addresses there, and a lower max-pods",
			strings.Join(lo.Map(fallback, func(z v1alpha1.ZoneStatus, _ int) string {
				return podnetwork.Place{Zone: z.Zone, ENIConfig: z.ENIConfig, Subnet: z.Subnet}.String()
			}), ", ")))
	case lo.ContainsBy(network.Status.Zones, func(z v1alpha1.ZoneStatus) bool { return blocks(z) || disabled && addresses(z) }):
		conditions.SetTrue(v1alpha1.ConditionCapacityAvailable)
	default:
		conditions.SetFalse(v1alpha1.ConditionCapacityAvailable, "PodSubnetsFull", lo.Ternary(len(network.Status.Zones) == 0,
			"no zone has a usable ENIConfig", lo.Ternary(disabled || launch.FallsBack(network), "no pod subnet has a free address that is not set aside for a node",
				"no pod subnet has a free /28 that is not set aside for a node")))
	}
}
