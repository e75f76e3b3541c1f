// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// evictionsAtOnce bounds the requests to the API server that are under way.
const evictionsAtOnce = 10

// carryOut does all that a plan says, and returns what failed. A node that changed meanwhile is left to the next round.
func (c *Controller) carryOut(ctx context.Context, migration *v1alpha1.NodeMigration, plan *Plan) (failures []v1alpha1.MigrationBlock) {
	fail := func(reason string, node *corev1.Node, err error) {
		if err = ignoreOutdated(err); err != nil {
			log.FromContext(ctx).Error(err, "migrating a node", "NodeMigration", migration.Name, "Node", node.Name)
			failures = append(failures, v1alpha1.MigrationBlock{Reason: reason, Node: node.Name, Message: fmt.Sprintf("node %s: %s", node.Name, eni.Brief(err))})
		}
	}
	for _, release := range plan.Release {
		fail(v1alpha1.ReasonNodeNotWritten, release.Node, c.release(ctx, release))
	}
	for _, mark := range plan.Marks {
		fail(v1alpha1.ReasonNodeNotWritten, mark.Node, c.mark(ctx, mark, true))
		if mark.Begins && mark.Record.Since != nil {
			log.FromContext(ctx).Info("draining a node", "NodeMigration", migration.Name, "Node", mark.Node.Name)
		}
	}
	for _, mark := range plan.Finish {
		if migration.Spec.After == v1alpha1.AfterTerminate {
			group, err := c.terminate(ctx, mark.Node)
			if err != nil {
				fail(v1alpha1.ReasonTerminationFailed, mark.Node, err)
				continue
			}
			mark.Record.Terminated, mark.Record.Group = true, group
		}
		fail(v1alpha1.ReasonNodeNotWritten, mark.Node, c.mark(ctx, mark, false))
		log.FromContext(ctx).Info("a node is empty", "NodeMigration", migration.Name, "Node", mark.Node.Name, "terminated", mark.Record.Terminated)
	}
	return append(failures, c.evict(ctx, plan.Evict)...)
}

// mark a node, if it is as the plan knew it.
func (c *Controller) mark(ctx context.Context, mark Mark, cordon bool) error {
	node := mark.Node.DeepCopy()
	metav1.SetMetaDataAnnotation(&node.ObjectMeta, v1alpha1.AnnotationNodeMigration, mark.Record.encode())
	node.Spec.Unschedulable = node.Spec.Unschedulable || cordon
	return c.patch(ctx, node, mark.Node)
}

// release a node, and let it take pods again.
func (c *Controller) release(ctx context.Context, release Release) error {
	node := release.Node.DeepCopy()
	delete(node.Annotations, v1alpha1.AnnotationNodeMigration)
	if release.Uncordon {
		node.Spec.Unschedulable = false
	}
	return c.patch(ctx, node, release.Node)
}

func (c *Controller) patch(ctx context.Context, node, stored *corev1.Node) error {
	if err := c.Client.Patch(ctx, node, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("patching Node %s, %w", node.Name, err)
	}
	return nil
}

// evict pods. A budget that was used up meanwhile is no failure: its status comes with the next round.
func (c *Controller) evict(ctx context.Context, pods []*corev1.Pod) (failures []v1alpha1.MigrationBlock) {
	var mu sync.Mutex
	workqueue.ParallelizeUntil(ctx, evictionsAtOnce, len(pods), func(i int) {
		pod := pods[i]
		eviction := &policyv1.Eviction{DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}}}
		err := c.Client.SubResource("eviction").Create(ctx, pod.DeepCopy(), eviction)
		switch {
		case err == nil:
			evicted.Inc()
		case apierrors.IsNotFound(err), apierrors.IsConflict(err): // gone, or another pod has its name
		case apierrors.IsTooManyRequests(err) && apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause):
		default:
			mu.Lock()
			defer mu.Unlock()
			failures = append(failures, v1alpha1.MigrationBlock{Reason: v1alpha1.ReasonEvictionFailed, Node: pod.Spec.NodeName, Pod: name(pod),
				Message: fmt.Sprintf("pod %s on node %s: %s", name(pod), pod.Spec.NodeName, err)})
		}
	})
	return failures
}
