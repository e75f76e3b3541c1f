// SPDX-License-Identifier: Apache-2.0

// Package pendingpods tells people why a pod has no node, when it is for want of pod addresses. Karpenter itself says only that
// no instance type has an offering that fits.
package pendingpods

import (
	"cmp"
	"context"
	"fmt"
	"time"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/awslabs/operatorpkg/reconciler"
	"github.com/awslabs/operatorpkg/singleton"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/events"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"

	"github.com/dovetail-dev/dovetail/pkg/launch"
)

const (
	// interval between looks. A pod that has waited for as long is one that Karpenter had time for.
	interval = 10 * time.Second
	// kindsPerLook and eventsPerLook bound the work when thousands of pods wait: what one pod of a Deployment is told holds
	// for the others.
	kindsPerLook, eventsPerLook = 50, 100
)

// ReasonNoPodAddresses is the event on a pod for which no node is launched because no pod subnet has room for one.
const ReasonNoPodAddresses = "NoPodAddresses"

// Provider knows what stands in the way of a node.
type Provider interface {
	Withheld(context.Context, *karpv1.NodeClaim) (network, why string, err error)
}

// Params of the controller.
type Params struct {
	Client   client.Client
	Provider Provider
	Recorder events.Recorder
	Clock    clock.Clock
}

// Controller looks at pods that cannot be scheduled.
type Controller struct{ Params }

// NewController returns a controller that is not yet registered.
func NewController(params Params) *Controller { return &Controller{params} }

// Register runs the controller in the manager, in the replica that leads.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	return controllerruntime.NewControllerManagedBy(m).
		Named("podnetwork.pendingpods").
		WatchesRawSource(singleton.Source()).
		Complete(singleton.AsReconciler(c))
}

// Reconcile is one look.
func (c *Controller) Reconcile(ctx context.Context) (reconciler.Result, error) {
	pods := &corev1.PodList{}
	if err := c.Client.List(ctx, pods, client.UnsafeDisableDeepCopy); err != nil {
		return reconciler.Result{}, fmt.Errorf("listing pods, %w", err)
	}
	kinds := c.pending(pods.Items)
	around := cluster{pods: pods.Items}
	pools := &karpv1.NodePoolList{}
	if len(kinds) > 0 {
		if err := c.Client.List(ctx, pools, client.UnsafeDisableDeepCopy); err != nil {
			return reconciler.Result{}, fmt.Errorf("listing NodePools, %w", err)
		}
	}
	waiting.Reset()
	told := 0
	for _, pods := range lo.Slice(kinds, 0, kindsPerLook) {
		if around.nodes == nil && len(spreadOverZones(pods[0])) > 0 {
			nodes, err := c.nodes(ctx)
			if err != nil {
				return reconciler.Result{}, err
			}
			around.nodes = nodes
		}
		network, why, err := c.explain(ctx, pods[0], pools.Items, around)
		if err != nil {
			return reconciler.Result{}, err
		}
		if why == "" {
			continue
		}
		waiting.WithLabelValues(network).Add(float64(len(pods)))
		for _, pod := range pods[:min(len(pods), max(eventsPerLook-told, 1))] {
			told++
			c.Recorder.Publish(events.Event{
				InvolvedObject: pod.DeepCopy(), Type: corev1.EventTypeWarning, Reason: ReasonNoPodAddresses,
				Message: fmt.Sprintf("no node is launched on pod network %s: %s", network, why), DedupeValues: []string{string(pod.UID)},
			})
		}
	}
	return reconciler.Result{RequeueAfter: interval}, nil
}

// pending lists pods that wait for a node, those of one owner together.
func (c *Controller) pending(pods []corev1.Pod) (kinds [][]*corev1.Pod) {
	index := map[string]int{}
	for i := range pods {
		pod := &pods[i]
		if !podutils.IsProvisionable(pod) || !pod.DeletionTimestamp.IsZero() || c.Clock.Since(pod.CreationTimestamp.Time) < interval {
			continue
		}
		kind := string(pod.UID)
		if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
			kind = string(owner.UID)
		}
		at, known := index[kind]
		if !known {
			at = len(kinds)
			index[kind], kinds = at, append(kinds, nil)
		}
		kinds[at] = append(kinds[at], pod)
	}
	return kinds
}

func (c *Controller) nodes(ctx context.Context) (map[string]*corev1.Node, error) {
	list := &corev1.NodeList{}
	if err := c.Client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Nodes, %w", err)
	}
	nodes := make(map[string]*corev1.Node, len(list.Items))
	for i := range list.Items {
		nodes[list.Items[i].Name] = &list.Items[i]
	}
	return nodes, nil
}

// explain says why no NodePool that the pod can use gets a node, "" when one can, or when none of them is on a pod network.
func (c *Controller) explain(ctx context.Context, pod *corev1.Pod, pools []karpv1.NodePool, around cluster) (network, why string, err error) {
	for i := range pools {
		claim, fits := launch.ClaimFor(&pools[i], pod)
		if !fits {
			continue
		}
		if fits, err = c.spread(ctx, claim, pod, around); err != nil {
			return "", "", err
		}
		if !fits {
			continue
		}
		on, reason, err := c.Provider.Withheld(ctx, claim)
		if err != nil {
			return "", "", err
		}
		if reason == "" {
			return "", "", nil
		}
		network, why = cmp.Or(network, on), cmp.Or(why, reason)
	}
	return network, why, nil
}

// spread narrows the claim to the zones that the pod's topology spread constraints leave. It returns false when that is none, which
// is no matter of addresses.
func (c *Controller) spread(ctx context.Context, claim *karpv1.NodeClaim, pod *corev1.Pod, around cluster) (fits bool, err error) {
	if len(spreadOverZones(pod)) == 0 || claim.Spec.NodeClassRef == nil {
		return true, nil
	}
	nodeClass := &ec2nodeclass.EC2NodeClass{}
	if err := c.Client.Get(ctx, client.ObjectKey{Name: claim.Spec.NodeClassRef.Name}, nodeClass); err != nil {
		return false, client.IgnoreNotFound(fmt.Errorf("getting EC2NodeClass %s, %w", claim.Spec.NodeClassRef.Name, err))
	}
	allowed := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...).Get(corev1.LabelTopologyZone)
	zones := sets.New[string]()
	for _, subnet := range nodeClass.Status.Subnets {
		if allowed.Has(subnet.Zone) {
			zones.Insert(subnet.Zone)
		}
	}
	left := around.leaves(pod, zones)
	if left.Len() == 0 {
		return false, nil
	}
	claim.Spec.Requirements = append(claim.Spec.Requirements, karpv1.NodeSelectorRequirementWithMinValues{
		Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: sets.List(left),
	})
	return true, nil
}
