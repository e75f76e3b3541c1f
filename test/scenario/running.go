// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Workload is the Deployment of the examples.
type Workload struct {
	Key      client.ObjectKey
	Selector client.MatchingLabelsSelector
	Replicas int
}

// Workload reads the one Deployment that the examples made in the default namespace.
func (s *Sandbox) Workload(ctx context.Context) (Workload, error) {
	return s.WorkloadIn(ctx, namespace)
}

// WorkloadIn reads the one Deployment that the examples made in a namespace.
func (s *Sandbox) WorkloadIn(ctx context.Context, namespace string) (Workload, error) {
	var deployments appsv1.DeploymentList
	if err := s.Kube.List(ctx, &deployments, client.InNamespace(namespace)); err != nil {
		return Workload{}, err
	}
	if len(deployments.Items) != 1 {
		return Workload{}, fmt.Errorf("namespace %s has %d Deployments; the examples should make one", namespace, len(deployments.Items))
	}
	deployment := &deployments.Items[0]
	selector, err := metav1.LabelSelectorAsSelector(deployment.Spec.Selector)
	if err != nil {
		return Workload{}, err
	}
	return Workload{
		Key:      client.ObjectKeyFromObject(deployment),
		Selector: client.MatchingLabelsSelector{Selector: selector},
		Replicas: int(*deployment.Spec.Replicas),
	}, nil
}

// Progress counts pods on their way: not bound to a node, bound, running with an address.
type Progress struct {
	Pending, Starting, Running int
	// Nodes that the pods are bound to.
	Nodes int
}

// WaitRunning watches the workload's pods until all run, and calls report whenever the counts change.
func (s *Sandbox) WaitRunning(ctx context.Context, workload Workload, report func(Progress)) error {
	pods := map[types.UID]*corev1.Pod{}
	last := Progress{}
	for {
		done, err := s.watchRunning(ctx, workload, pods, func(now Progress) {
			if now != last && report != nil {
				report(now)
			}
			last = now
		})
		if done || err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d pods run, %d have no node, %d have a node: %w",
				last.Running, workload.Replicas, last.Pending, last.Starting, context.Cause(ctx))
		}
	}
}

// watchRunning follows one watch to its end. Watches end now and then by the server's will.
func (s *Sandbox) watchRunning(ctx context.Context, workload Workload, pods map[types.UID]*corev1.Pod, report func(Progress)) (bool, error) {
	events, err := s.Kube.Watch(ctx, &corev1.PodList{}, client.InNamespace(workload.Key.Namespace), workload.Selector)
	if err != nil {
		if ctx.Err() != nil {
			return false, nil //nolint:nilerr // the caller says what was awaited
		}
		return false, fmt.Errorf("watching pods: %w", err)
	}
	defer events.Stop()
	clear(pods) // a watch begins with all that exists
	for event := range events.ResultChan() {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok { // an error event: the watch is over
			return false, nil
		}
		if event.Type == watch.Deleted {
			delete(pods, pod.UID)
		} else {
			pods[pod.UID] = pod
		}
		now := count(pods)
		report(now)
		if now.Running == workload.Replicas && len(pods) == workload.Replicas {
			return true, nil
		}
	}
	return false, nil
}

func count(pods map[types.UID]*corev1.Pod) Progress {
	var p Progress
	nodes := map[string]bool{}
	for _, pod := range pods {
		switch {
		case running(pod):
			p.Running++
		case pod.Spec.NodeName != "":
			p.Starting++
		default:
			p.Pending++
		}
		if pod.Spec.NodeName != "" {
			nodes[pod.Spec.NodeName] = true
		}
	}
	p.Nodes = len(nodes)
	return p
}

// running is true for a pod that has an address and whose containers run.
func running(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning && pod.Status.PodIP != ""
}
