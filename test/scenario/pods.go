// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pauseImage does nothing, for as long as it runs.
const pauseImage = "registry.k8s.io/pause:3.10"

// probeLabel marks pods that the scenario makes besides the examples'.
const probeLabel = "dovetail-scenario"

// podParams describe a pod of the scenario's own.
type podParams struct {
	Name         string
	NodeSelector map[string]string
	Tolerations  []corev1.Toleration
	// CPU to ask for; empty for none.
	CPU string
}

func newPod(p podParams) *corev1.Pod {
	requests := corev1.ResourceList{}
	if p.CPU != "" {
		requests[corev1.ResourceCPU] = resource.MustParse(p.CPU)
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: p.Name, Labels: map[string]string{probeLabel: p.Name}},
		Spec: corev1.PodSpec{
			NodeSelector: p.NodeSelector,
			Tolerations:  p.Tolerations,
			Containers: []corev1.Container{{
				Name: "pause", Image: pauseImage, Resources: corev1.ResourceRequirements{Requests: requests},
			}},
			// With 0 the API server would forget the pod before its node has taken it down.
			TerminationGracePeriodSeconds: new(int64(1)),
		},
	}
}

// onNode selects one node.
func onNode(name string) map[string]string { return map[string]string{corev1.LabelHostname: name} }

// createPods makes pods named prefix-0, prefix-1, … on one node.
func (s *Sandbox) createPods(ctx context.Context, prefix, node string, n int) ([]*corev1.Pod, error) {
	pods := make([]*corev1.Pod, n)
	for i := range pods {
		pods[i] = newPod(podParams{Name: fmt.Sprintf("%s-%d", prefix, i), NodeSelector: onNode(node)})
		if err := s.Kube.Create(ctx, pods[i]); err != nil {
			return pods[:i], fmt.Errorf("creating pod %s: %w", pods[i].Name, err)
		}
	}
	return pods, nil
}

// waitPods waits until all of the pods run, and returns them as they are then.
func (s *Sandbox) waitPods(ctx context.Context, pods []*corev1.Pod) ([]*corev1.Pod, error) {
	current := make([]*corev1.Pod, len(pods))
	err := until(ctx, "the scenario's pods run", func(ctx context.Context) error {
		for i, pod := range pods {
			current[i] = &corev1.Pod{}
			if err := s.Kube.Get(ctx, client.ObjectKeyFromObject(pod), current[i]); err != nil {
				return err
			}
			if !running(current[i]) {
				return fmt.Errorf("pod %s is %s", pod.Name, current[i].Status.Phase)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.explain(ctx, pods))
	}
	return current, nil
}

// explain lists the warnings of the first pod that does not run.
func (s *Sandbox) explain(ctx context.Context, pods []*corev1.Pod) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), diagnosisTimeout)
	defer cancel()
	for _, pod := range pods {
		current := &corev1.Pod{}
		if err := s.Kube.Get(ctx, client.ObjectKeyFromObject(pod), current); err != nil {
			return err.Error()
		}
		if running(current) {
			continue
		}
		reasons, err := s.events(ctx, "Pod", pod.Name)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("events of pod %s: %s", pod.Name, strings.Join(reasons, "; "))
	}
	return ""
}

// deletePods deletes the pods and waits until they are gone.
func (s *Sandbox) deletePods(ctx context.Context, pods []*corev1.Pod) error {
	for _, pod := range pods {
		if err := client.IgnoreNotFound(s.Kube.Delete(ctx, pod)); err != nil {
			return fmt.Errorf("deleting pod %s: %w", pod.Name, err)
		}
	}
	return until(ctx, "deleted pods are gone", func(ctx context.Context) error {
		for _, pod := range pods {
			err := s.Kube.Get(ctx, client.ObjectKeyFromObject(pod), &corev1.Pod{})
			if !apierrors.IsNotFound(err) {
				return errors.Join(err, fmt.Errorf("pod %s is still there", pod.Name))
			}
		}
		return nil
	})
}

// workloadPods lists the running pods of the workload, by name.
func (s *Sandbox) workloadPods(ctx context.Context, workload Workload) ([]*corev1.Pod, error) {
	var list corev1.PodList
	if err := s.Kube.List(ctx, &list, client.InNamespace(workload.Key.Namespace), workload.Selector); err != nil {
		return nil, err
	}
	var pods []*corev1.Pod
	for i := range list.Items {
		if running(&list.Items[i]) {
			pods = append(pods, &list.Items[i])
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods, nil
}
