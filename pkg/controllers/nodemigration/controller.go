// SPDX-License-Identifier: Apache-2.0

// Package nodemigration empties nodes that Karpenter does not own, as their NodeMigration says. What to do next is decided in one place
// (Decide), from what the API server has; the controller that leads does it. It keeps nothing in memory: a migration goes on
// from the nodes' annotations.
package nodemigration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
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
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

const (
	// interval between rounds that no event asked for: time alone makes pods late.
	interval = 5 * time.Second
	// gather events: each round looks at all pods.
	gather = 500 * time.Millisecond
)

// EC2 is what the controller asks of EC2, for migrations that terminate. An *ec2.Client is one.
type EC2 interface {
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
	TerminateInstances(context.Context, *ec2.TerminateInstancesInput, ...func(*ec2.Options)) (*ec2.TerminateInstancesOutput, error)
}

// Params of the controller.
type Params struct {
	Client client.Client
	// Reader asks the API server itself. A node that the cache does not show as begun must not make room for another one.
	Reader   client.Reader
	EC2      EC2
	Recorder events.Recorder
	Clock    clock.Clock
}

// Controller reconciles NodeMigrations.
type Controller struct {
	Params
	// account that this program runs as. It stays the same.
	account func(context.Context) (types.NamespacedName, error)
}

// NewController returns a controller that is not yet registered.
func NewController(params Params) *Controller {
	return &Controller{Params: params, account: remember(func(ctx context.Context) (types.NamespacedName, error) { return whoAmI(ctx, params.Client) })}
}

func remember[T any](ask func(context.Context) (T, error)) func(context.Context) (T, error) {
	var mu sync.Mutex
	var answer *T
	return func(ctx context.Context) (T, error) {
		mu.Lock()
		defer mu.Unlock()
		if answer == nil {
			given, err := ask(ctx)
			if err != nil {
				return given, err
			}
			answer = &given
		}
		return *answer, nil
	}
}

// Register runs the controller in the manager, in the replica that leads.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	all := c.wakeAll()
	return controllerruntime.NewControllerManagedBy(m).
		Named("nodemigration").
		For(&v1alpha1.NodeMigration{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})). // also when deletion is asked for
		Watches(&corev1.Node{}, all, builder.WithPredicates(predicate.Or(predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}, specOrReadyChanged))).
		Watches(&corev1.Pod{}, all, builder.WithPredicates(podMoved)).
		Watches(&policyv1.PodDisruptionBudget{}, all).
		Watches(&v1alpha1.PodNetwork{}, all).
		Complete(reconcile.AsReconciler(m.GetClient(), c))
}

// wakeAll migrations that are under way: there are few.
func (c *Controller) wakeAll() handler.EventHandler {
	wake := func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		migrations := &v1alpha1.NodeMigrationList{}
		if err := c.Client.List(ctx, migrations, client.UnsafeDisableDeepCopy); err != nil {
			log.FromContext(ctx).Error(err, "listing NodeMigrations")
			return
		}
		for i := range migrations.Items {
			if migration := &migrations.Items[i]; !rests(migration) {
				queue.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(migration)}, gather)
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, _ event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			wake(ctx, q)
		},
		UpdateFunc: func(ctx context.Context, _ event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			wake(ctx, q)
		},
		DeleteFunc: func(ctx context.Context, _ event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			wake(ctx, q)
		},
	}
}

var specOrReadyChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, after := e.ObjectOld.(*corev1.Node), e.ObjectNew.(*corev1.Node)
	return before.Spec.Unschedulable != after.Spec.Unschedulable || len(before.Spec.Taints) != len(after.Spec.Taints) || nodeReady(before) != nodeReady(after)
}}

var podMoved = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
	return before.Spec.NodeName != after.Spec.NodeName || before.Status.Phase != after.Status.Phase || isReady(before) != isReady(after) ||
		(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
		before.Annotations[karpv1.DoNotDisruptAnnotationKey] != after.Annotations[karpv1.DoNotDisruptAnnotationKey]
}}

// rests tells that there is nothing to do until the spec changes.
func rests(m *v1alpha1.NodeMigration) bool {
	return m.DeletionTimestamp.IsZero() && m.Status.ObservedGeneration == m.Generation && m.Status.Phase == v1alpha1.MigrationComplete
}

// Reconcile is one round of one migration.
func (c *Controller) Reconcile(ctx context.Context, migration *v1alpha1.NodeMigration) (reconcile.Result, error) {
	if !migration.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, c.end(ctx, migration)
	}
	stored := migration.DeepCopy()
	if controllerutil.AddFinalizer(migration, v1alpha1.FinalizerNodeMigration) {
		// A patch: an update would write the user's durations anew, which is another generation of the spec.
		if err := c.Client.Patch(ctx, migration, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil {
			return reconcile.Result{}, ignoreOutdated(fmt.Errorf("adding the finalizer of NodeMigration %s, %w", migration.Name, err))
		}
	}
	if rests(migration) {
		measure(migration)
		return reconcile.Result{}, nil
	}
	plan, err := c.plan(ctx, migration)
	if invalid := (*selectorError)(nil); errors.As(err, &invalid) {
		return reconcile.Result{}, c.refuse(ctx, migration, invalid)
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	failures := c.carryOut(ctx, migration, plan)
	if err := c.report(ctx, migration, plan, failures); err != nil {
		return reconcile.Result{}, err
	}
	if rests(migration) || migration.Spec.Stop {
		return reconcile.Result{RequeueAfter: lo.Ternary(len(failures) > 0, interval, 0)}, nil
	}
	return reconcile.Result{RequeueAfter: lo.Ternary(migration.Status.Nodes.Draining > 0, settle, interval)}, nil
}

// plan from the cache; where it would begin with nodes, from the nodes as the API server has them now.
func (c *Controller) plan(ctx context.Context, migration *v1alpha1.NodeMigration) (*Plan, error) {
	view, err := c.view(ctx, migration)
	if err != nil {
		return nil, err
	}
	plan, err := c.decide(ctx, view)
	if err != nil || !plan.Begins() {
		return plan, err
	}
	now := &corev1.NodeList{}
	if err := c.Reader.List(ctx, now); err != nil {
		return nil, fmt.Errorf("listing Nodes, %w", err)
	}
	view.Nodes = lo.ToSlicePtr(now.Items)
	return c.decide(ctx, view)
}

func (c *Controller) decide(ctx context.Context, view *View) (*Plan, error) {
	x, err := newIndex(view)
	if err != nil {
		return nil, &selectorError{err}
	}
	view.Desired = map[owner]int32{}
	for _, o := range x.shortOwners() {
		if view.Desired[o], err = c.desired(ctx, o); err != nil {
			return nil, err
		}
	}
	return x.decide(), nil
}

// selectorError is the user's to mend.
type selectorError struct{ error }

// view gathers what a plan is made from. Nothing in it is changed.
func (c *Controller) view(ctx context.Context, migration *v1alpha1.NodeMigration) (*View, error) {
	nodes, pods, budgets := &corev1.NodeList{}, &corev1.PodList{}, &policyv1.PodDisruptionBudgetList{}
	pools, claims, networks := &karpv1.NodePoolList{}, &karpv1.NodeClaimList{}, &v1alpha1.PodNetworkList{}
	for _, list := range []client.ObjectList{nodes, pods, budgets, pools, claims, networks} {
		if err := c.Client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing for NodeMigration %s, %w", migration.Name, err)
		}
	}
	account, err := c.account(ctx)
	if err != nil {
		return nil, err
	}
	view := &View{
		Now: c.Clock.Now(), Migration: migration, Nodes: lo.ToSlicePtr(nodes.Items), Pods: lo.ToSlicePtr(pods.Items),
		Budgets: budgets.Items, Pools: pools.Items, Networks: networks.Items, Claimed: map[string]bool{}, Controller: account,
	}
	for i := range claims.Items {
		if id := claims.Items[i].Status.ProviderID; id != "" {
			view.Claimed[id] = true
		}
	}
	return view, nil
}

// end what is left of a migration that is deleted: one that is complete leaves its nodes cordoned.
func (c *Controller) end(ctx context.Context, migration *v1alpha1.NodeMigration) error {
	if !controllerutil.ContainsFinalizer(migration, v1alpha1.FinalizerNodeMigration) {
		return nil
	}
	nodes := &corev1.NodeList{}
	if err := c.Reader.List(ctx, nodes); err != nil {
		return fmt.Errorf("listing Nodes, %w", err)
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		if r, err := recordOf(node); err != nil || r == nil || r.Migration != migration.Name {
			continue
		} else if err := c.release(ctx, Release{Node: node, Uncordon: r.CordonedAt != nil && !r.Terminated && migration.Status.Phase != v1alpha1.MigrationComplete}); err != nil {
			return err
		}
	}
	forget(migration.Name)
	stored := migration.DeepCopy()
	controllerutil.RemoveFinalizer(migration, v1alpha1.FinalizerNodeMigration)
	return ignoreOutdated(c.Client.Patch(ctx, migration, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})))
}

// ignoreOutdated lets the newer object, which is coming, wake the controller again.
func ignoreOutdated(err error) error {
	if apierrors.IsConflict(err) {
		return nil
	}
	return client.IgnoreNotFound(err)
}
