// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
)

// How long things may take when nothing goes wrong any more.
const (
	recovery = 5 * time.Minute // until all pods run
	clearing = 8 * time.Minute // until no node is left where no pod is: instances of lost launches included
)

// settle ends all faults, and waits until every pod that is wanted is Ready and nothing is on its way.
func (s *soak) settle(ctx context.Context, n int) error {
	if err := s.box.Faults().Clear(ctx); err != nil {
		return fmt.Errorf("ending the faults: %w", err)
	}
	s.log("round %d: all faults ended", n)
	started := time.Now()
	err := s.watch(ctx, recovery, "not all pods run again after the faults ended", func(o Observation) string { return s.unsettled(ctx, o) })
	took := time.Since(started)
	if err == nil {
		s.log("round %d: all %d pods run after %.0f s", n, len(s.before.Pods), took.Seconds())
		s.figures.recovered(n, took)
	}
	return err
}

// unsettled says what is on its way yet, "" for nothing.
func (s *soak) unsettled(ctx context.Context, o Observation) string {
	if !o.Fresh {
		return "the API server does not answer"
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	deployments := &appsv1.DeploymentList{}
	if err := s.user.Kube.List(ctx, deployments, client.InNamespace(namespace)); err != nil {
		return err.Error()
	}
	var missing []string
	wanted := 0
	for i := range deployments.Items {
		d := &deployments.Items[i]
		if d.DeletionTimestamp != nil {
			missing = append(missing, d.Name+" is still being deleted")
			continue
		}
		wanted += int(*d.Spec.Replicas)
		if d.Status.ObservedGeneration < d.Generation || d.Status.ReadyReplicas != *d.Spec.Replicas || d.Status.Replicas != *d.Spec.Replicas {
			missing = append(missing, fmt.Sprintf("%s has %d of %d pods", d.Name, d.Status.ReadyReplicas, *d.Spec.Replicas))
		}
	}
	for i := range o.Pods {
		if pod := &o.Pods[i]; pod.DeletionTimestamp != nil {
			missing = append(missing, "pod "+pod.Name+" on "+pod.Spec.NodeName+" is still ending")
		}
	}
	if len(missing) == 0 && len(o.Pods) != wanted {
		missing = append(missing, fmt.Sprintf("there are %d pods, %d are wanted", len(o.Pods), wanted))
	}
	for name, answer := range o.Why {
		missing = append(missing, fmt.Sprintf("pod %s: %s: %s", name, answer.Cause(), answer.Findings[0].Message))
	}
	return strings.Join(missing, "; ")
}

// drain deletes all pods, and waits until nothing is left that costs money or addresses. An ENI that is not attached may take
// longer, and only the last time it is waited for.
func (s *soak) drain(ctx context.Context, n int, last bool) error {
	for _, slot := range slots {
		if err := s.scale(ctx, slot.name, 0); err != nil {
			return fmt.Errorf("scaling %s to zero: %w", slot.name, err)
		}
	}
	s.log("round %d: no pods wanted", n)
	started := time.Now()
	if err := s.watch(ctx, clearing, "something is left though there are no pods", s.left); err != nil {
		return err
	}
	s.log("round %d: no pod, node, instance or attached ENI is left after %.0f s", n, time.Since(started).Seconds())
	s.figures.calms++
	if !last {
		return nil
	}
	return s.watch(ctx, unattached, "an ENI is left", func(o Observation) string {
		return strings.Join(s.interfaces(o), " ")
	})
}

// left is what exists beyond what the sandbox began with, but for ENIs that are not attached.
func (s *soak) left(o Observation) string {
	if !o.Fresh {
		return "the API server does not answer"
	}
	var found []string
	for i := range o.Pods {
		found = append(found, "pod "+o.Pods[i].Name)
	}
	for i := range o.Claims {
		found = append(found, "NodeClaim "+o.Claims[i].Name)
	}
	for i := range o.Nodes {
		if _, ours := o.Nodes[i].Labels[karpenter.NodePoolLabelKey]; ours {
			found = append(found, "node "+o.Nodes[i].Name)
		}
	}
	for _, i := range o.Account.Instances {
		if _, ours := i.Tags[karpenter.NodePoolLabelKey]; ours && i.State != "terminated" {
			found = append(found, "instance "+i.ID+" "+i.State)
		}
	}
	for _, i := range o.Account.Interfaces {
		if i.Attachment != nil && slices.Contains(s.interfaces(o), i.ID) {
			found = append(found, "ENI "+i.ID)
		}
	}
	return strings.Join(found, ", ")
}

// interfaces beyond what the sandbox began with.
func (s *soak) interfaces(o Observation) (ids []string) {
	for _, i := range o.Account.Interfaces {
		if !s.began[i.ID] {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

// watch looks until nothing is objected to, while the invariants hold.
func (s *soak) watch(ctx context.Context, limit time.Duration, what string, objection func(Observation) string) error {
	standing := time.Duration(0)
	for last := time.Now(); ; {
		o, err := s.look(ctx)
		if err != nil {
			return err
		}
		text := objection(o)
		if text == "" {
			return nil
		}
		standing += min(time.Since(last), longestStep)
		last = time.Now()
		if standing > limit {
			return Violation{Objection: Objection{Invariant: what, Text: text, Bound: limit}, Lasted: standing}
		}
	}
}

// restarts is from how many restarts on Kubernetes waits so long before the next one that the soak would see nothing else.
const restarts = 4

// rest takes the controller's pod away where it has been killed often: who is killed every minute waits for minutes in the end. The next
// one begins without that.
func (s *soak) rest(ctx context.Context) {
	pods := &corev1.PodList{}
	if err := s.user.Kube.List(ctx, pods, client.InNamespace(sandbox.Namespace), client.MatchingLabels{"app.kubernetes.io/component": "controller"}); err != nil {
		return // the next round will
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.RestartCount >= restarts }) {
			if err := s.user.Kube.Delete(ctx, pod); err == nil {
				s.log("controller pod %s was restarted %d times, and is deleted", pod.Name, pod.Status.ContainerStatuses[0].RestartCount)
			}
		}
	}
}
