// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// tell of a node. What is told first holds.
func (r *round) tell(n *nodeView, phase v1alpha1.NodePhase, pods int, reason, message string) {
	if slices.ContainsFunc(r.plan.Status.Entries, func(e v1alpha1.NodeMigrationNode) bool { return e.Name == n.Name }) {
		return
	}
	entry := v1alpha1.NodeMigrationNode{Name: n.Name, Phase: phase, Pods: int32(pods), Reason: reason, Message: message}
	if n.record != nil {
		entry.Since = n.record.Since
	}
	r.plan.Status.Entries = append(r.plan.Status.Entries, entry)
}

// describe sums the round up.
func (r *round) describe() {
	s := &r.plan.Status
	for _, n := range r.members {
		if n.record.done() {
			r.tell(n, v1alpha1.NodeDone, 0, "", n.record.ended())
			continue
		}
		active, ending := r.leaving(n)
		r.tell(n, v1alpha1.NodePending, len(active)+len(ending), "", "")
	}
	inMove := r.inMove || len(r.plan.Evict)+len(r.plan.Marks)+len(r.plan.Finish) > 0
	switch {
	case s.Nodes.Total == 0:
		s.Phase, s.Reason = v1alpha1.MigrationPending, v1alpha1.ReasonNoNodes
		s.Message = fmt.Sprintf("spec.nodeSelector picks no node that may be migrated; it picks %d others, whose reasons are in status.nodeStatuses", s.Nodes.Refused)
	case s.Nodes.Done == s.Nodes.Total:
		s.Phase, s.Reason, s.Pause, s.Blocked = v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted, nil, nil
		s.Message = fmt.Sprintf("%d nodes are empty", s.Nodes.Total)
	case s.Pause != nil:
		s.Phase, s.Reason, s.Message = v1alpha1.MigrationPaused, s.Pause.Reason, s.Pause.Message
		if r.stopped {
			s.Blocked = append([]v1alpha1.MigrationBlock{*s.Pause}, s.Blocked...)
		}
	case !inMove && len(s.Blocked) > 0:
		s.Phase, s.Reason, s.Message = v1alpha1.MigrationWaiting, s.Blocked[0].Reason, s.Blocked[0].Message
	default:
		s.Phase, s.Reason = v1alpha1.MigrationProgressing, v1alpha1.ReasonDraining
		s.Message = fmt.Sprintf("%d of %d nodes are empty, at most %d are drained at a time", s.Nodes.Done, s.Nodes.Total, s.Budget)
	}
	slices.SortStableFunc(s.Entries, func(a, b v1alpha1.NodeMigrationNode) int { return cmp.Compare(rank(a), rank(b)) })
}

// rank puts what people look for first.
func rank(e v1alpha1.NodeMigrationNode) int {
	switch e.Phase {
	case v1alpha1.NodeDraining, v1alpha1.NodeSettling:
		return 0
	case v1alpha1.NodePending:
		return lo.Ternary(e.Reason != "", 1, 3)
	case v1alpha1.NodeRefused:
		return 2
	default:
		return 4
	}
}
