// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"slices"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"
	"sigs.k8s.io/karpenter/pkg/utils/resources"
)

// counted are the kinds whose objects say how many replicas they are to have.
var counted = []string{"ReplicaSet", "ReplicationController", "StatefulSet"}

// withOwners adds the owners of pods that are to leave a node to those on record, with what they have before.
func (x *index) withOwners(owners []owner, n *nodeView, leaving []*corev1.Pod) []owner {
	for _, pod := range leaving {
		o, controlled := ownerOf(pod)
		if !controlled || slices.ContainsFunc(owners, func(known owner) bool { return known.key() == o }) {
			continue
		}
		before := x.ready[o]
		if n.record.inFlight() { // then its own are not among them
			for _, pod := range leaving {
				if same, ok := ownerOf(pod); ok && same == o && isReady(pod) {
					before++
				}
			}
		}
		with := o
		with.Ready = before
		owners = append(owners, with)
	}
	return owners
}

// short finds an owner that has fewer Ready replicas than before, and than it wants. Of an owner that does not say what it wants, each pod has to
// be Ready. Jobs are not waited for: their pods may come one after the other.
func (x *index) short(r *record) *owner {
	for i := range r.Owners {
		o := &r.Owners[i]
		switch {
		case slices.Contains(counted, o.Kind):
			want := o.Ready
			if desired, known := x.Desired[o.key()]; known {
				want = min(want, desired)
			}
			if x.ready[o.key()] < want {
				return o
			}
		case o.Kind != "Job" && x.unready[o.key()] != nil:
			return o
		}
	}
	return nil
}

// shortOwners lists the owners of which it has to be known how many replicas they want.
func (x *index) shortOwners() (owners []owner) {
	for _, n := range x.nodes {
		if !x.mine(n) || !n.record.inFlight() {
			continue
		}
		for _, o := range n.record.Owners {
			if slices.Contains(counted, o.Kind) && x.ready[o.key()] < o.Ready && !slices.Contains(owners, o.key()) {
				owners = append(owners, o.key())
			}
		}
	}
	return owners
}

// pending finds a pod that has waited for too long because of the migration: one that replaces an evicted pod and does not start, or
// one that could run on a node that the migration keeps cordoned. Of those that waited before, the migration is not the cause.
func (x *index) pending() *corev1.Pod {
	closed := lo.Filter(x.nodes, func(n *nodeView, _ int) bool { return x.mine(n) && n.record.CordonedAt != nil && !n.record.Terminated })
	since := x.evictedSince()
	for _, pod := range x.Pods {
		if pod.Status.Phase != corev1.PodPending || pod.DeletionTimestamp != nil || x.Now.Sub(pod.CreationTimestamp.Time) <= x.Migration.Spec.Timeouts.PodsPending.Duration {
			continue
		}
		if n := x.byName[pod.Spec.NodeName]; n != nil && n.record.inFlight() {
			continue // it waits on a node that it is to leave
		}
		if o, controlled := ownerOf(pod); controlled && since[o] != nil && !pod.CreationTimestamp.Before(since[o]) {
			return pod
		}
		if podutils.IsProvisionable(pod) && slices.ContainsFunc(closed, func(n *nodeView) bool {
			return !pod.CreationTimestamp.Before(n.record.CordonedAt) && admits(n.Node, pod) && resources.Fits(resources.RequestsForPods(pod), n.Status.Allocatable)
		}) {
			return pod
		}
	}
	return nil
}

// evictedSince is when the migration began to evict pods of an owner whose replicas it still waits for.
func (x *index) evictedSince() map[owner]*metav1.Time {
	since := map[owner]*metav1.Time{}
	for _, n := range x.nodes {
		if !x.mine(n) || !n.record.inFlight() {
			continue
		}
		for _, o := range n.record.Owners {
			if first := since[o.key()]; first == nil || n.record.Since.Before(first) {
				since[o.key()] = n.record.Since
			}
		}
	}
	return since
}
