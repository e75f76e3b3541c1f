// SPDX-License-Identifier: Apache-2.0

// Package provisioning carries out spec.provision of PodNetworks: it associates CIDR blocks with the VPC, creates pod subnets with their
// reservations and route tables, and writes their ENIConfigs. What to do is decided by pkg/provision; here it is done, one action
// after the other, and what a crash leaves half done is found again and ended. What it made it knows by tags, by the PodNetwork's status
// (associations have no tags) and by an annotation of ENIConfigs; it changes and deletes nothing else.
package provisioning

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

const (
	// resync finds what people changed in the VPC.
	resync = 10 * time.Minute
	// recheck whether somebody has mended what was refused.
	recheck = time.Minute
	// associationPoll while a CIDR block is associating: EC2 takes 3 to 10 s.
	associationPoll = 5 * time.Second
	// settle is how long a new subnet is left alone: it is unknown to parts of EC2 at first.
	settle = 2 * time.Second
	// firstPause after a refusal of EC2, doubled with each up to lastPause.
	firstPause, lastPause = 2 * time.Second, 5 * time.Minute
)

// EC2 is what the controller asks of EC2. An *ec2.Client is one.
type EC2 interface {
	DescribeVpcs(context.Context, *ec2.DescribeVpcsInput, ...func(*ec2.Options)) (*ec2.DescribeVpcsOutput, error)
	DescribeSubnets(context.Context, *ec2.DescribeSubnetsInput, ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error)
	DescribeRouteTables(context.Context, *ec2.DescribeRouteTablesInput, ...func(*ec2.Options)) (*ec2.DescribeRouteTablesOutput, error)
	DescribeNetworkInterfaces(context.Context, *ec2.DescribeNetworkInterfacesInput, ...func(*ec2.Options)) (*ec2.DescribeNetworkInterfacesOutput, error)
	GetSubnetCidrReservations(context.Context, *ec2.GetSubnetCidrReservationsInput, ...func(*ec2.Options)) (*ec2.GetSubnetCidrReservationsOutput, error)
	AssociateVpcCidrBlock(context.Context, *ec2.AssociateVpcCidrBlockInput, ...func(*ec2.Options)) (*ec2.AssociateVpcCidrBlockOutput, error)
	DisassociateVpcCidrBlock(context.Context, *ec2.DisassociateVpcCidrBlockInput, ...func(*ec2.Options)) (*ec2.DisassociateVpcCidrBlockOutput, error)
	CreateSubnet(context.Context, *ec2.CreateSubnetInput, ...func(*ec2.Options)) (*ec2.CreateSubnetOutput, error)
	DeleteSubnet(context.Context, *ec2.DeleteSubnetInput, ...func(*ec2.Options)) (*ec2.DeleteSubnetOutput, error)
	CreateSubnetCidrReservation(context.Context, *ec2.CreateSubnetCidrReservationInput, ...func(*ec2.Options)) (*ec2.CreateSubnetCidrReservationOutput, error)
	DeleteSubnetCidrReservation(context.Context, *ec2.DeleteSubnetCidrReservationInput, ...func(*ec2.Options)) (*ec2.DeleteSubnetCidrReservationOutput, error)
	AssociateRouteTable(context.Context, *ec2.AssociateRouteTableInput, ...func(*ec2.Options)) (*ec2.AssociateRouteTableOutput, error)
}

// Params of the controller.
type Params struct {
	Client   client.Client
	EC2      EC2
	Cluster  string
	Recorder events.Recorder
	Clock    clock.Clock
}

// Controller reconciles PodNetworks one at a time, so that two of them never plan the same VPC at once.
type Controller struct {
	Params
	vpcs     *reader
	refusals map[types.UID]refusal
}

// NewController returns a controller that is not yet registered.
func NewController(params Params) *Controller {
	return &Controller{Params: params, vpcs: newReader(params), refusals: map[types.UID]refusal{}}
}

// Register runs the controller in the manager, in the replica that leads.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	// Node classes and ENIConfigs may bear on each network that provisions.
	all := handler.EnqueueRequestsFromMapFunc(podnetwork.Requests(c.Client, func(n *v1alpha1.PodNetwork) bool { return n.Spec.Provision != nil }))
	return controllerruntime.NewControllerManagedBy(m).
		Named("podnetwork.provisioning").
		For(&v1alpha1.PodNetwork{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&ec2nodeclass.EC2NodeClass{}, all, builder.WithPredicates(nodeSubnetsChanged)).
		Watches(&eniconfig.ENIConfig{}, all).
		Complete(reconcile.AsReconciler(m.GetClient(), c))
}

// nodeSubnetsChanged leaves out the many other changes of node classes.
var nodeSubnetsChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*ec2nodeclass.EC2NodeClass)
	after, same := e.ObjectNew.(*ec2nodeclass.EC2NodeClass)
	return !ok || !same || !equality.Semantic.DeepEqual(before.Status.Subnets, after.Status.Subnets) ||
		!equality.Semantic.DeepEqual(before.Labels, after.Labels) || before.AMIFamily() != after.AMIFamily()
}}

// Reconcile does what the network lacks, until EC2 has to be waited for.
func (c *Controller) Reconcile(ctx context.Context, network *v1alpha1.PodNetwork) (reconcile.Result, error) {
	deleted, ours := !network.DeletionTimestamp.IsZero(), controllerutil.ContainsFinalizer(network, v1alpha1.FinalizerProvision)
	var result reconcile.Result
	var err error
	switch {
	case deleted && !ours, network.Spec.Provision == nil && !ours:
		c.forget(network)
		return result, nil
	case deleted, network.Spec.Provision == nil:
		result, err = c.end(ctx, network)
	default:
		result, err = c.provision(ctx, network)
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return reconcile.Result{RequeueAfter: time.Second}, nil // the cache was behind: nothing was lost, and no call of EC2 is repeated
	}
	return result, err
}

func (c *Controller) forget(network *v1alpha1.PodNetwork) {
	delete(c.refusals, network.UID)
	c.vpcs.forget(network)
	refused.DeletePartialMatch(map[string]string{"pod_network": network.Name})
}

func (c *Controller) provision(ctx context.Context, network *v1alpha1.PodNetwork) (reconcile.Result, error) {
	stored := network.DeepCopy()
	if controllerutil.AddFinalizer(network, v1alpha1.FinalizerProvision) {
		if err := c.Client.Patch(ctx, network, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil {
			return reconcile.Result{}, fmt.Errorf("adding the finalizer to PodNetwork %s, %w", network.Name, err)
		}
	}
	if left := c.refusals[network.UID].until.Sub(c.Clock.Now()); left > 0 && c.refusals[network.UID].generation == network.Generation {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	in, problems, err := c.input(ctx, network)
	if err != nil {
		return c.failed(ctx, network, nil, err)
	}
	if len(problems) > 0 {
		return reconcile.Result{RequeueAfter: recheck}, c.tell(ctx, network, in, provision.Plan{Refusals: problems})
	}
	plan, wait, err := c.carryOut(ctx, network, &in)
	if err != nil {
		return c.failed(ctx, network, &in, err)
	}
	delete(c.refusals, network.UID)
	switch {
	case wait > 0:
	case plan.Complete():
		wait = resync
	default:
		wait = recheck
	}
	return reconcile.Result{RequeueAfter: wait}, c.tell(ctx, network, in, plan)
}

// carryOut plans until there is nothing more to do now. What EC2 answered is in the view that is kept: the next round needs no call to know it.
func (c *Controller) carryOut(ctx context.Context, network *v1alpha1.PodNetwork, in *provision.Input) (provision.Plan, time.Duration, error) {
	for {
		plan := provision.Make(*in)
		if len(plan.Actions) == 0 {
			return plan, lo.Ternary(len(plan.Waiting) > 0, associationPoll, 0), nil
		}
		action := plan.Actions[0]
		if !in.Ready(action) {
			return plan, associationPoll, nil
		}
		if wait := c.vpcs.settling(network, in.Subnet(action)); wait > 0 {
			return plan, wait, nil
		}
		if err := c.announce(ctx, network, *in, action); err != nil {
			return plan, 0, err
		}
		id, err := c.execute(ctx, network, in, action)
		if err != nil {
			return plan, 0, err
		}
		in.Apply(action, id)
		c.vpcs.keep(network, in.VPC, id)
		c.made(ctx, network, *in, action, id)
	}
}

// failed keeps what EC2 or the cluster refused in the condition, and tries again later.
func (c *Controller) failed(ctx context.Context, network *v1alpha1.PodNetwork, in *provision.Input, err error) (reconcile.Result, error) {
	var asked *callError
	if !errors.As(err, &asked) || ctx.Err() != nil {
		return reconcile.Result{}, err
	}
	next := c.refusals[network.UID].again(c.Clock.Now(), network.Generation, asked)
	c.refusals[network.UID] = next
	if !next.transient() || slices.Contains(rereads, next.reason) {
		c.vpcs.forget(network) // what was planned from is not what is there
	}
	log.FromContext(ctx).Info("EC2 refused", "call", asked.call, "reason", next.reason, "error", asked.err.Error(), "retry", next.pause)
	plan := provision.Plan{Waiting: []string{next.message}}
	if !next.transient() {
		plan = provision.Plan{Refusals: []provision.Refusal{{Reason: next.reason, Message: next.message}}}
	}
	if in == nil {
		in = &provision.Input{}
	} else {
		plan.Subnets = provision.Make(*in).Subnets
	}
	return reconcile.Result{RequeueAfter: next.pause}, c.tell(ctx, network, *in, plan)
}
