// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Readiness follows the ready pods of a workload.
type Readiness struct {
	mu    sync.Mutex
	ready map[types.UID]bool
	// fewest ready pods at any moment.
	fewest int
	err    error
	stop   func()
	ended  chan struct{}
}

// WatchReadiness follows the workload's pods, all of which run, until Fewest.
func (s *Sandbox) WatchReadiness(ctx context.Context, workload Workload) (*Readiness, error) {
	ctx, cancel := context.WithCancel(ctx)
	pods := &corev1.PodList{}
	if err := s.Kube.List(ctx, pods, client.InNamespace(workload.Key.Namespace), workload.Selector); err != nil {
		cancel()
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	// From where the list ended, so that no change is missed.
	events, err := s.Kube.Watch(ctx, &corev1.PodList{}, client.InNamespace(workload.Key.Namespace), workload.Selector,
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: pods.ResourceVersion}})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watching pods: %w", err)
	}
	r := &Readiness{ready: map[types.UID]bool{}, stop: cancel, ended: make(chan struct{})}
	for i := range pods.Items {
		r.see(&pods.Items[i])
	}
	r.fewest = len(r.ready)
	go func() {
		defer close(r.ended)
		defer events.Stop()
		for event := range events.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if !ok { // also at the watch's end, whoever ended it
				break
			}
			r.mu.Lock()
			if event.Type == watch.Deleted {
				delete(r.ready, pod.UID)
			} else {
				r.see(pod)
			}
			r.fewest = min(r.fewest, len(r.ready))
			r.mu.Unlock()
		}
		if ctx.Err() == nil { // the server ended it: what came after was not seen
			r.mu.Lock()
			r.err = errors.New("the watch of the pods ended early")
			r.mu.Unlock()
		}
	}()
	return r, nil
}

// see counts what a PodDisruptionBudget counts: ready, and not on its way out.
func (r *Readiness) see(pod *corev1.Pod) {
	delete(r.ready, pod.UID)
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil {
			r.ready[pod.UID] = true
		}
	}
}

// Fewest ends the watch and returns the fewest ready pods that there were at any moment.
func (r *Readiness) Fewest() (int, error) {
	r.stop()
	<-r.ended
	return r.fewest, r.err
}

// Budget makes a PodDisruptionBudget for a workload.
func (s *Sandbox) Budget(ctx context.Context, workload Workload, minAvailable int) (*policyv1.PodDisruptionBudget, error) {
	available := intstr.FromInt(minAvailable)
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: workload.Key.Namespace, Name: workload.Key.Name},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: &available,
			Selector:     &metav1.LabelSelector{MatchLabels: map[string]string{probeLabel: workload.Key.Name}},
		},
	}
	if err := s.Kube.Create(ctx, budget); err != nil {
		return nil, fmt.Errorf("creating PodDisruptionBudget %s: %w", budget.Name, err)
	}
	return budget, nil
}
