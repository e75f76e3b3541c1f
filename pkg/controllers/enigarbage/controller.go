// SPDX-License-Identifier: Apache-2.0

// Package enigarbage deletes the ENIs that pod networks left behind: those of a node that ended between making and attaching
// one, and those of ended instances that EC2 was not told to delete with them. A node's agent looks for its own; this looks
// for those whose node is gone, for the whole cluster, in the controller that leads.
package enigarbage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/awslabs/operatorpkg/reconciler"
	"github.com/awslabs/operatorpkg/singleton"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/ec2read"
)

const (
	// interval between rounds. An ENI that is not attached in two of them is garbage: the agent attaches one within seconds,
	// or deletes it.
	interval = 5 * time.Minute
	// deletionsPerRound, deletionRate and deletionBurst bound what a round costs of EC2's request buckets, which launches share. When a
	// round left some over, the next comes soon.
	deletionsPerRound = 100
	deletionRate      = rate.Limit(2) // a second
	deletionBurst     = 10
	soon              = 10 * time.Second
)

// EC2 is what the controller asks of EC2. An *ec2.Client is one.
type EC2 interface {
	DescribeNetworkInterfaces(context.Context, *ec2.DescribeNetworkInterfacesInput, ...func(*ec2.Options)) (*ec2.DescribeNetworkInterfacesOutput, error)
	DeleteNetworkInterface(context.Context, *ec2.DeleteNetworkInterfaceInput, ...func(*ec2.Options)) (*ec2.DeleteNetworkInterfaceOutput, error)
}

// Params of the controller.
type Params struct {
	EC2     EC2
	Cluster string
	Clock   clock.Clock
}

// Controller deletes ENIs.
type Controller struct {
	Params
	pace *rate.Limiter
	// seen is when a round first found an ENI unattached, by id.
	seen map[string]time.Time
}

// NewController returns a controller that is not yet registered.
func NewController(params Params) *Controller {
	return &Controller{Params: params, pace: rate.NewLimiter(deletionRate, deletionBurst), seen: map[string]time.Time{}}
}

// Register runs the controller in the manager, in the replica that leads.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	return controllerruntime.NewControllerManagedBy(m).
		Named("podnetwork.enigarbage").
		WatchesRawSource(singleton.Source()).
		Complete(singleton.AsReconciler(c))
}

// Reconcile is one round.
func (c *Controller) Reconcile(ctx context.Context) (reconciler.Result, error) {
	garbage, err := c.find(ctx)
	if err != nil {
		return reconciler.Result{}, err
	}
	round := garbage[:min(len(garbage), deletionsPerRound)]
	var failures []error
	for _, id := range round {
		if err := c.pace.Wait(ctx); err != nil {
			return reconciler.Result{}, err
		}
		if err := c.delete(ctx, id); err != nil {
			failures = append(failures, err)
		}
	}
	leaked.Set(float64(len(garbage) - len(round) + len(failures)))
	if err := errors.Join(failures...); err != nil {
		return reconciler.Result{}, err
	}
	if len(round) < len(garbage) {
		return reconciler.Result{RequeueAfter: soon}, nil
	}
	return reconciler.Result{RequeueAfter: interval}, nil
}

// find lists the ENIs that were unattached an interval ago and are now. It asks for this cluster's and for those made by
// Dovetail's agents only: of all others, also of aws-node's, nobody here knows what they are for.
func (c *Controller) find(ctx context.Context) (garbage []string, err error) {
	now, available := c.Clock.Now(), map[string]time.Time{}
	left := ec2read.NetworkInterfaces(ctx, c.EC2, ec2read.Filter("tag:"+eni.TagCluster, c.Cluster), ec2read.Filter("tag:"+eni.TagOwner, eni.OwnerDovetail),
		ec2read.Filter("status", string(ec2types.NetworkInterfaceStatusAvailable)))
	for n, err := range left {
		if err != nil {
			return nil, fmt.Errorf("looking for ENIs that were left behind, %w", err)
		}
		id := aws.ToString(n.NetworkInterfaceId)
		if ec2read.Tag(n.TagSet, eni.TagNoManage) == "true" { // somebody wants it left alone
			continue
		}
		first, known := c.seen[id]
		if !known {
			first = now
		}
		available[id] = first
		if now.Sub(first) >= interval {
			garbage = append(garbage, id)
		}
	}
	c.seen = available
	return garbage, nil
}

// delete never harms an ENI that was attached meanwhile: EC2 refuses it.
func (c *Controller) delete(ctx context.Context, id string) error {
	_, err := c.EC2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: aws.String(id)})
	switch reason := eni.Classify(err); {
	case err == nil:
		collected.Inc()
		log.FromContext(ctx).Info("deleted an ENI that was left behind", "eni", id)
	case reason == eni.Gone, reason == eni.InUse:
	default:
		return fmt.Errorf("deleting ENI %s, which is attached to nothing, %w", id, err)
	}
	delete(c.seen, id)
	return nil
}
