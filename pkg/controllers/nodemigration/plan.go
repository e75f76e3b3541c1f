// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"fmt"
	"slices"
	"time"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// settle is how long a node is cordoned at least before it counts as empty: the scheduler may just have bound a pod there.
const settle = 2 * time.Second

// Plan is what to do next, and what to tell. Everything in it may be done at once.
type Plan struct {
	// Marks are records to write on nodes, and nodes to cordon.
	Marks []Mark
	// Evict pods, whose owners are on record.
	Evict []*corev1.Pod
	// Finish nodes that are empty.
	Finish []Mark
	// Release nodes from the migration.
	Release []Release

	Status Summary
}

// Mark is a node and its next record.
type Mark struct {
	Node   *corev1.Node
	Record *record
	// Begins says that the node takes a place of the budget, or is closed to new pods, with this.
	Begins bool
}

// Release of a node.
type Release struct {
	Node     *corev1.Node
	Uncordon bool
}

// Summary is what a plan says of the migration.
type Summary struct {
	Phase   v1alpha1.MigrationPhase
	Reason  string
	Message string
	// Pause is why no further node is begun; nil when nothing stands against it.
	Pause   *v1alpha1.MigrationBlock
	Budget  int
	Nodes   v1alpha1.MigratedNodes
	Blocked []v1alpha1.MigrationBlock
	Entries []v1alpha1.NodeMigrationNode
}

// Begins says whether the plan begins with nodes. That has to be decided from what the API server has now.
func (p *Plan) Begins() bool {
	return slices.ContainsFunc(p.Marks, func(m Mark) bool { return m.Begins })
}

// Decide plans the next steps of a migration.
func Decide(v *View) (*Plan, error) {
	x, err := newIndex(v)
	if err != nil {
		return nil, err
	}
	return x.decide(), nil
}

// round is a plan in the making.
type round struct {
	*index
	plan    *Plan
	members []*nodeView
	// stopped says that no pod may be evicted now: the pause is not about nodes that do not become empty.
	stopped bool
	inMove  bool
}

func (x *index) decide() *Plan {
	r := &round{index: x, plan: &Plan{}}
	r.sort()
	r.count()
	if x.Migration.Spec.Stop {
		r.plan.Status.Phase, r.plan.Status.Reason = v1alpha1.MigrationStopped, v1alpha1.ReasonStopped
		r.plan.Status.Message = "every node that the migration had cordoned takes pods again"
		return r.plan
	}
	r.plan.Status.Pause = x.pause()
	r.stopped = r.plan.Status.Pause != nil
	for _, n := range r.members {
		if n.record.inFlight() {
			r.goOn(n)
		}
	}
	if r.plan.Status.Pause == nil {
		r.begin()
	}
	r.describe()
	return r.plan
}

// sort tells the migration's nodes from those that it must not touch, and lets go of those that are no longer its own.
func (r *round) sort() {
	for _, n := range r.nodes {
		selected, mine := r.selected(n), r.mine(n)
		reason, message := "", ""
		if selected {
			reason, message = r.refusal(n)
		}
		member := selected && reason == ""
		if mine && (r.Migration.Spec.Stop || !member && !n.record.done()) {
			r.plan.Release = append(r.plan.Release, Release{Node: n.Node, Uncordon: n.record.CordonedAt != nil && !n.record.Terminated})
			n.record = nil
		}
		if member {
			r.members = append(r.members, n)
		}
		if selected && reason != "" {
			r.plan.Status.Nodes.Refused++
			r.tell(n, v1alpha1.NodeRefused, 0, reason, message)
		}
	}
}

// count the nodes. One that has gone since the last time is done: it runs nothing any more. Nodes that a changed selector no longer
// picks have not gone.
func (r *round) count() {
	stored, counted := &r.Migration.Status, &r.plan.Status.Nodes
	present := int32(len(r.members))
	counted.Gone = stored.Nodes.Gone
	if stored.NodeSelector == metav1.FormatLabelSelector(&r.Migration.Spec.NodeSelector) {
		counted.Gone += max(0, stored.Nodes.Total-stored.Nodes.Gone-present)
	}
	counted.Total = counted.Gone + present
	for _, n := range r.members {
		switch {
		case n.record.done():
			counted.Done++
		case n.record.inFlight():
			counted.Draining++
		default:
			counted.Pending++
		}
	}
	counted.Done += counted.Gone
	r.plan.Status.Budget = bound(r.Migration.Spec.MaxUnavailable, int(counted.Total))
}

// bound is a budget in nodes, at least one.
func bound(budget intstr.IntOrString, total int) int {
	scaled, err := intstr.GetScaledValueFromIntOrPercent(&budget, total, false)
	if err != nil {
		return 1 // the API server takes none like it
	}
	return max(scaled, 1)
}

// pause finds what forbids to evict anything more now.
func (x *index) pause() *v1alpha1.MigrationBlock {
	if x.Migration.Spec.Paused {
		return &v1alpha1.MigrationBlock{Reason: v1alpha1.ReasonUserRequested, Message: "spec.paused is true"}
	}
	for i := range x.Networks {
		if capacity := x.Networks[i].StatusConditions().Get(v1alpha1.ConditionCapacityAvailable); capacity.IsFalse() {
			return &v1alpha1.MigrationBlock{Reason: v1alpha1.ReasonPodNetworkCapacity,
				Message: fmt.Sprintf("PodNetwork %s takes no further node: %s", x.Networks[i].Name, capacity.Message)}
		}
	}
	if pod := x.pending(); pod != nil {
		return &v1alpha1.MigrationBlock{Reason: v1alpha1.ReasonPodsPending, Pod: name(pod), Message: fmt.Sprintf(
			"pod %s has not started within %s: see its events", name(pod), x.Migration.Spec.Timeouts.PodsPending.Duration)}
	}
	return nil
}

// goOn with a node that holds a place of the budget.
func (r *round) goOn(n *nodeView) {
	active, ending := r.leaving(n)
	next := n.record.clone()
	next.Owners = r.withOwners(next.Owners, n, active)
	if !n.Spec.Unschedulable && next.CordonedAt == nil {
		next.CordonedAt = r.time()
	}
	if marks := len(next.Owners) > len(n.record.Owners) || !n.Spec.Unschedulable; marks && !r.stopped {
		r.plan.Marks = append(r.plan.Marks, Mark{Node: n.Node, Record: next})
	}
	if len(active)+len(ending) == 0 {
		r.finish(n)
		return
	}
	blocked := r.held(n, active)
	if blocked == nil && len(active) > 0 {
		blocked = r.evict(n, active)
	}
	reason, message := "", ""
	switch {
	case blocked != nil:
		reason, message = blocked.Reason, blocked.Message
		r.block(blocked)
	case len(ending) > 0:
		message = fmt.Sprintf("%d pods are ending", len(ending))
	}
	r.inMove = r.inMove || len(ending) > 0
	r.tell(n, v1alpha1.NodeDraining, len(active)+len(ending), reason, message)
	if r.overdue(n) {
		if blocked == nil {
			pod := append(ending, active...)[0]
			blocked = block(v1alpha1.ReasonEvictionTimeout, n, pod, "pod %s has not left node %s within %s", name(pod), n.Name, r.Migration.Spec.Timeouts.Eviction.Duration)
			r.block(blocked)
		}
		r.stall(blocked)
	}
}

// evict what may go now. Pods whose owner is not on record wait for the next round.
func (r *round) evict(n *nodeView, active []*corev1.Pod) (blocked *v1alpha1.MigrationBlock) {
	if r.stopped {
		return nil
	}
	for _, pod := range active {
		if o, controlled := ownerOf(pod); controlled && !slices.ContainsFunc(n.record.Owners, func(known owner) bool { return known.key() == o }) {
			continue
		}
		if r.controllers(pod) {
			if why := r.homeless(n, []*corev1.Pod{pod}); why != nil {
				blocked = why
				continue
			}
		}
		allowed, why := r.ask(n, pod)
		if allowed {
			r.plan.Evict = append(r.plan.Evict, pod)
		} else if why != nil && blocked == nil {
			blocked = why
		}
	}
	return blocked
}

// finish with an empty node when what ran there runs elsewhere.
func (r *round) finish(n *nodeView) {
	if short := r.short(n.record); short != nil {
		r.inMove = true
		message := fmt.Sprintf("%s %s/%s has %d Ready replicas elsewhere and had %d before node %s was drained",
			short.Kind, short.Namespace, short.Name, r.ready[short.key()], short.Ready, n.Name)
		r.tell(n, v1alpha1.NodeSettling, 0, v1alpha1.ReasonReplicasNotReady, message)
		if r.overdue(n) {
			blocked := &v1alpha1.MigrationBlock{Reason: v1alpha1.ReasonReplicasNotReady, Node: n.Name, Message: message}
			r.block(blocked)
			r.stall(blocked)
		}
		return
	}
	r.tell(n, v1alpha1.NodeSettling, 0, "", "")
	if r.stopped {
		return
	}
	r.inMove = true
	if r.Now.Sub(n.record.Since.Time) >= settle {
		next := n.record.clone()
		next.Drained, next.Owners = r.time(), nil
		r.plan.Finish = append(r.plan.Finish, Mark{Node: n.Node, Record: next})
	}
}

func (r *round) overdue(n *nodeView) bool {
	return r.Now.Sub(n.record.Since.Time) > r.Migration.Spec.Timeouts.Eviction.Duration
}

// stall pauses for a node that does not become empty in time. Others that were begun go on, and so does it when it can.
func (r *round) stall(blocked *v1alpha1.MigrationBlock) {
	if r.plan.Status.Pause == nil && blocked != nil {
		r.plan.Status.Pause = blocked
	}
}

// begin with as many nodes as the budget has places for.
func (r *round) begin() {
	var ordinary, critical []*nodeView
	waiting := 0 // nodes without the controller that are not done
	for _, n := range r.members {
		switch {
		case r.critical(n):
			critical = append(critical, n)
			continue
		case !n.record.done():
			waiting++
		}
		if !n.record.done() && !n.record.inFlight() {
			ordinary = append(ordinary, n)
		}
	}
	// Nodes that a budget holds can wait for their turn: by then it may have been relaxed.
	slices.SortStableFunc(ordinary, func(a, b *nodeView) int { return r.closed(a) - r.closed(b) })
	places := r.plan.Status.Budget - int(r.plan.Status.Nodes.Draining)
	for _, n := range ordinary {
		places -= r.beginWith(n, places > 0)
	}
	if r.Migration.Spec.Cordon == v1alpha1.CordonAll {
		r.cordon(ordinary)
	}
	for _, n := range critical {
		switch {
		case n.record.done(), n.record.inFlight():
		case waiting > 0:
			r.tell(n, v1alpha1.NodePending, 0, "", "the controller runs here: the node is the last")
		default:
			one := r.beginWith(n, places > 0 && !slices.ContainsFunc(critical, func(n *nodeView) bool { return n.record.inFlight() }))
			places -= one
		}
	}
}

// beginWith a node, when there is a place and nothing keeps it. It returns the places that are taken.
func (r *round) beginWith(n *nodeView, place bool) int {
	active, ending := r.leaving(n)
	blocked := r.held(n, active)
	if blocked == nil && place {
		blocked = r.homeless(n, active)
	}
	if blocked != nil {
		r.block(blocked)
		r.tell(n, v1alpha1.NodePending, len(active)+len(ending), blocked.Reason, blocked.Message)
		return 0
	}
	if !place || n.DeletionTimestamp != nil {
		r.tell(n, v1alpha1.NodePending, len(active)+len(ending), "", "")
		return 0
	}
	next := r.closing(n)
	next.Since = r.time()
	next.Owners = r.withOwners(nil, n, active)
	r.mark(n, next)
	r.tell(n, v1alpha1.NodeDraining, len(active)+len(ending), "", "")
	r.plan.Status.Nodes.Draining++
	r.plan.Status.Nodes.Pending--
	return 1
}

// cordon all nodes whose turn is still to come and whose pods have another place. The controller's stay open to the last.
func (r *round) cordon(nodes []*nodeView) {
	for _, n := range nodes {
		if n.record != nil || n.Spec.Unschedulable {
			continue
		}
		active, _ := r.leaving(n)
		if r.homeless(n, active) == nil {
			r.mark(n, r.closing(n))
		}
	}
}

// closing is the node's record with it cordoned.
func (r *round) closing(n *nodeView) *record {
	next := &record{Migration: r.Migration.Name}
	if n.record != nil {
		next = n.record.clone()
	}
	if !n.Spec.Unschedulable {
		next.CordonedAt = r.time()
	}
	return next
}

// mark a node in the plan, and in the view, for the nodes that are looked at after it.
func (r *round) mark(n *nodeView, next *record) {
	r.plan.Marks = append(r.plan.Marks, Mark{Node: n.Node, Record: next, Begins: true})
	n.record = next
	r.inMove = true
}

// closed is 1 for nodes with a pod that a budget lets nobody evict now.
func (r *round) closed(n *nodeView) int {
	active, _ := r.leaving(n)
	return lo.Ternary(slices.ContainsFunc(active, func(p *corev1.Pod) bool { return isReady(p) && r.guarded(p) }), 1, 0)
}

// time is the plan's, as the API server keeps times: in seconds.
func (r *round) time() *metav1.Time {
	return lo.ToPtr(metav1.NewTime(r.Now.Truncate(time.Second)))
}

func (r *round) block(b *v1alpha1.MigrationBlock) {
	r.plan.Status.Blocked = append(r.plan.Status.Blocked, *b)
}
