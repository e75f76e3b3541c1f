// SPDX-License-Identifier: Apache-2.0

// Package podsubnet tells the ledger of pod subnets what it has to know: it reads the subnets from EC2, in one place for all who
// want to know and within EC2's request buckets, and sees which NodeClaims come and go.
package podsubnet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/smithy-go"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

const (
	// period between readings when nothing happens. A reading takes a call for up to 200 subnets and one for each 1,000 ENIs in
	// them, of 20 a second that EC2 allows.
	period = time.Minute
	// shortPeriod while somebody finds no room, so that what comes free is used soon.
	shortPeriod = 15 * time.Second
	// launchedPeriod after a launch: the instance boots and attaches its pod ENI in about that time.
	launchedPeriod = 10 * time.Second
	// firstPause and longestPause after EC2 has throttled once, and again and again.
	firstPause, longestPause = 5 * time.Second, 5 * time.Minute
)

// Params of the controller.
type Params struct {
	Client client.Client
	Reader *Reader
	Clock  clock.Clock
}

// Controller keeps the ledger up to date.
type Controller struct {
	Params
	last, failedAt time.Time
	pause          time.Duration
}

// NewController returns a controller that is not yet registered.
func NewController(params Params) *Controller { return &Controller{Params: params} }

// Register runs the controller in the manager, in the replica that leads.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	if err := expose(crmetrics.Registry, c.Reader.Ledger); err != nil {
		return err
	}
	if err := m.Add(manager.RunnableFunc(c.Run)); err != nil {
		return fmt.Errorf("adding the reader of pod subnets, %w", err)
	}
	if err := c.registerReports(m); err != nil {
		return err
	}
	return controllerruntime.NewControllerManagedBy(m).Named("podsubnet.nodeclaim").For(&karpv1.NodeClaim{}).Complete(c)
}

// Reconcile tells the ledger what has become of a NodeClaim.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	claim := &karpv1.NodeClaim{}
	if err := c.Client.Get(ctx, request.NamespacedName, claim); err != nil {
		if apierrors.IsNotFound(err) {
			c.Reader.Ledger.Gone(request.Name)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("getting NodeClaim %s, %w", request.Name, err)
	}
	podnetwork.Recall(c.Reader.Ledger, claim)
	return reconcile.Result{}, nil
}

// Run reads the subnets until the context ends.
func (c *Controller) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		wait := c.due().Sub(c.Clock.Now())
		if wait <= 0 {
			c.round(ctx)
			continue
		}
		timer := c.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-c.Reader.Ledger.Demand(): // it may be due earlier now
		case <-timer.C():
		}
		timer.Stop()
	}
	return nil
}

// due is when the next reading is.
func (c *Controller) due() time.Time {
	if c.pause > 0 {
		return c.failedAt.Add(c.pause)
	}
	if c.last.IsZero() {
		return c.Clock.Now()
	}
	wait := period
	launched, short := c.Reader.Ledger.Urgent(c.last)
	if short {
		wait = shortPeriod
	}
	if launched {
		wait = launchedPeriod
	}
	return c.last.Add(wait)
}

// round reads the subnets once. It backs off when EC2 throttles, or fails otherwise.
func (c *Controller) round(ctx context.Context) {
	began := c.Clock.Now()
	if err := errors.Join(c.Reader.Refresh(ctx), c.forget(ctx)); err != nil {
		c.failedAt, c.pause = began, min(max(2*c.pause, firstPause), longestPause)
		var api smithy.APIError
		if ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "reading pod subnets", "again", c.pause, "throttled", errors.As(err, &api) && api.ErrorCode() == "RequestLimitExceeded")
		}
		return
	}
	c.last, c.pause = began, 0
}

// forget those of whose end no event came.
func (c *Controller) forget(ctx context.Context) error {
	owners := c.Reader.Ledger.Owners() // before the list: who is not in it was there
	claims := &karpv1.NodeClaimList{}
	if err := c.Client.List(ctx, claims, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing NodeClaims, %w", err)
	}
	names := sets.New[string]()
	for i := range claims.Items {
		names.Insert(claims.Items[i].Name)
	}
	for _, owner := range owners {
		if !names.Has(owner) {
			c.Reader.Ledger.Gone(owner)
		}
	}
	return nil
}
