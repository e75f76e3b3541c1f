// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"context"
	"fmt"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

const (
	// maxBlocked and maxEntries keep a status of thousands of nodes small. The CRD has them too.
	maxBlocked, maxEntries = 10, 100
	// reasonNotPaused is the condition's while nothing forbids to begin with further nodes.
	reasonNotPaused = "NotPaused"
)

// report what a round planned, and what of it failed: in the status, as events and as metrics.
func (c *Controller) report(ctx context.Context, migration *v1alpha1.NodeMigration, plan *Plan, failures []v1alpha1.MigrationBlock) error {
	summary := plan.Status
	if len(failures) > 0 && summary.Phase == v1alpha1.MigrationProgressing && len(plan.Marks) == 0 {
		summary.Phase, summary.Reason, summary.Message = v1alpha1.MigrationWaiting, failures[0].Reason, failures[0].Message
	}
	blocked := append(failures, summary.Blocked...)
	stored := migration.DeepCopy()
	status := &migration.Status
	status.Phase, status.ObservedGeneration, status.Nodes = summary.Phase, migration.Generation, summary.Nodes
	status.NodeSelector, status.MaxUnavailable = metav1.FormatLabelSelector(&migration.Spec.NodeSelector), int32(summary.Budget)
	status.Blocked, status.NodeStatuses = lo.Slice(blocked, 0, maxBlocked), lo.Slice(summary.Entries, 0, maxEntries)
	now := metav1.NewTime(c.Clock.Now())
	if status.StartedAt == nil && summary.Nodes.Draining+summary.Nodes.Done > 0 {
		status.StartedAt = &now
	}
	status.FinishedAt = lo.Ternary(summary.Phase == v1alpha1.MigrationComplete, lo.CoalesceOrEmpty(status.FinishedAt, &now), nil)
	c.setCondition(migration, v1alpha1.ConditionProgressing, summary.Phase == v1alpha1.MigrationProgressing, summary.Reason, summary.Message)
	c.setCondition(migration, v1alpha1.ConditionComplete, summary.Phase == v1alpha1.MigrationComplete, summary.Reason, summary.Message)
	if summary.Pause != nil {
		c.setCondition(migration, v1alpha1.ConditionPaused, true, summary.Pause.Reason, summary.Pause.Message)
	} else {
		c.setCondition(migration, v1alpha1.ConditionPaused, false, reasonNotPaused, "")
	}
	c.publish(migration, summary, blocked)
	measure(migration)
	return c.write(ctx, migration, stored)
}

// refuse a selector that the CRD's rules did not.
func (c *Controller) refuse(ctx context.Context, migration *v1alpha1.NodeMigration, invalid error) error {
	message := fmt.Sprintf("spec.nodeSelector: %s", invalid)
	return c.report(ctx, migration, &Plan{Status: Summary{
		Phase: v1alpha1.MigrationPending, Reason: v1alpha1.ReasonInvalidSelector, Message: message, Nodes: migration.Status.Nodes,
		Blocked: []v1alpha1.MigrationBlock{{Reason: v1alpha1.ReasonInvalidSelector, Message: message}},
	}}, nil)
}

func (c *Controller) setCondition(m *v1alpha1.NodeMigration, kind string, value bool, reason, message string) {
	meta.SetStatusCondition(&m.Status.Conditions, metav1.Condition{
		Type: kind, Status: lo.Ternary(value, metav1.ConditionTrue, metav1.ConditionFalse), Reason: reason, Message: message,
		ObservedGeneration: m.Generation, LastTransitionTime: metav1.NewTime(c.Clock.Now()),
	})
}

// publish Warnings of what stands in the way when nothing goes on, and of what failed; and the end.
func (c *Controller) publish(migration *v1alpha1.NodeMigration, summary Summary, blocked []v1alpha1.MigrationBlock) {
	event := func(kind, reason, message string) {
		c.Recorder.Publish(events.Event{InvolvedObject: migration, Type: kind, Reason: reason, Message: message, DedupeValues: []string{migration.Name, reason, message}})
	}
	switch summary.Phase {
	case v1alpha1.MigrationComplete:
		event(corev1.EventTypeNormal, summary.Reason, summary.Message)
	case v1alpha1.MigrationPending:
		event(corev1.EventTypeWarning, summary.Reason, summary.Message)
	case v1alpha1.MigrationPaused:
		if summary.Reason == v1alpha1.ReasonUserRequested {
			break // whoever did it knows
		}
		event(corev1.EventTypeWarning, summary.Reason, summary.Message)
	case v1alpha1.MigrationWaiting:
		for _, b := range lo.Slice(blocked, 0, maxBlocked) {
			event(corev1.EventTypeWarning, b.Reason, b.Message)
		}
	}
}

func (c *Controller) write(ctx context.Context, migration, stored *v1alpha1.NodeMigration) error {
	if equality.Semantic.DeepEqual(stored.Status, migration.Status) {
		return nil
	}
	err := c.Client.Status().Patch(ctx, migration, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		return ignoreOutdated(fmt.Errorf("writing the status of NodeMigration %s, %w", migration.Name, err))
	}
	return nil
}
