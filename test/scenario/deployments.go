// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Deploy makes a Deployment of pods that ask for little, in one zone or, with "", in any, and with apart set one a node.
func (s *Sandbox) Deploy(ctx context.Context, name string, replicas int, zone string, apart bool) (Workload, error) {
	match := map[string]string{probeLabel: name}
	pod := newPod(podParams{Name: name, CPU: "10m"})
	if zone != "" {
		pod.Spec.NodeSelector = map[string]string{corev1.LabelTopologyZone: zone}
	}
	if apart {
		pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: match},
			}},
		}}
	}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(replicas)), //nolint:gosec // hundreds
			Selector: &metav1.LabelSelector{MatchLabels: match},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: match}, Spec: pod.Spec},
		},
	}
	if err := s.Kube.Create(ctx, deployment); err != nil {
		return Workload{}, fmt.Errorf("creating Deployment %s: %w", name, err)
	}
	return Workload{
		Key: client.ObjectKeyFromObject(deployment), Selector: client.MatchingLabelsSelector{Selector: labels.SelectorFromSet(match)}, Replicas: replicas,
	}, nil
}

// EndDeployment deletes a Deployment, and with it its pods.
func (s *Sandbox) EndDeployment(ctx context.Context, workload Workload) error {
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: workload.Key.Namespace, Name: workload.Key.Name}}
	return client.IgnoreNotFound(s.Kube.Delete(ctx, deployment, client.PropagationPolicy(metav1.DeletePropagationForeground)))
}

// WaitPodEvents waits until a pod of the workload has an event that mentions a text, and returns its events.
func (s *Sandbox) WaitPodEvents(ctx context.Context, workload Workload, mention string) (found []string, err error) {
	pods := &corev1.PodList{}
	err = until(ctx, "workload "+workload.Key.Name+" has its pods", func(ctx context.Context) error {
		if err := s.Kube.List(ctx, pods, client.InNamespace(workload.Key.Namespace), workload.Selector); err != nil {
			return err
		}
		if len(pods.Items) != workload.Replicas {
			return fmt.Errorf("it has %d", len(pods.Items))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.waitEvents(ctx, "Pod", pods.Items[0].Name, mention)
}

// Unplaced counts the pods of a workload that have no node.
func (s *Sandbox) Unplaced(ctx context.Context, workload Workload) (n int, err error) {
	pods := &corev1.PodList{}
	if err := s.Kube.List(ctx, pods, client.InNamespace(workload.Key.Namespace), workload.Selector); err != nil {
		return 0, err
	}
	for i := range pods.Items {
		if pods.Items[i].Spec.NodeName == "" {
			n++
		}
	}
	return n, nil
}

// faultID reads the answer of `dovetail sandbox fault add -o json`.
func faultID(answer string) (string, error) {
	var fault struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(answer), &fault); err != nil || fault.ID == "" {
		return "", fmt.Errorf("no fault's id in %q: %w", answer, err)
	}
	return fault.ID, nil
}
