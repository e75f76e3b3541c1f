// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

const (
	// An m5.large has 1,930 mCPU for pods.
	instanceType = "m5.large"
	allocatable  = 1800 // mCPU that our pods take, in equal shares
	name         = "load"
	deployments  = 10
	look         = 2 * time.Second
)

// load is what the controller gets to do.
type load struct {
	nodes, perNode int
	deadline       time.Duration
	sandbox        *scenario.Sandbox
}

func (l *load) measure(ctx context.Context) error {
	if _, err := l.sandbox.Apply(ctx, "Deployment", "NodePool"); err != nil {
		return err
	}
	if err := l.sandbox.Kube.Create(ctx, l.nodePool()); err != nil {
		return err
	}
	started := time.Now()
	for i := range deployments {
		if err := l.sandbox.Kube.Create(ctx, l.deployment(i)); err != nil {
			return err
		}
	}
	var registered, running time.Duration
	for running == 0 {
		now, err := l.count(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("%8.1f s  %5d node claims %5d nodes %6d of %d pods running\n", time.Since(started).Seconds(), now.claims, now.nodes, now.running, l.pods())
		if registered == 0 && now.nodes >= l.nodes {
			registered = time.Since(started)
		}
		if now.running >= l.pods() {
			running = time.Since(started)
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d pods run: %w", now.running, l.pods(), ctx.Err())
		case <-time.After(look):
		}
	}
	ended := time.Now()
	for i := range deployments {
		if err := l.sandbox.Kube.Delete(ctx, l.deployment(i), client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
			return err
		}
	}
	printed := ""
	left, err := l.sandbox.WaitNoLeaks(ctx, func(now scenario.Leaks) {
		line := fmt.Sprintf("left: %d nodes, %d node claims, %d instances, %d ENIs", len(now.Nodes), len(now.NodeClaims), len(now.Instances), len(now.Interfaces))
		if line != printed {
			fmt.Println(line)
		}
		printed = line
	})
	if err != nil {
		return err
	}
	gone := time.Since(ended)
	if !left.None() {
		return fmt.Errorf("left over: %s", left)
	}
	for _, figure := range []struct {
		name string
		took time.Duration
	}{
		{fmt.Sprintf("%d nodes registered", l.nodes), registered},
		{fmt.Sprintf("%d pods running", l.pods()), running},
		{"pods gone to nothing left", gone},
	} {
		fmt.Printf("%-40s %8.1f s\n", figure.name, figure.took.Seconds())
	}
	return nil
}

func (l *load) pods() int { return l.nodes * l.perNode }

// counts of what there is.
type counts struct{ claims, nodes, running int }

// count asks for little, to leave the machine to what is measured.
func (l *load) count(ctx context.Context) (c counts, err error) {
	if c.claims, err = l.countKind(ctx, "karpenter.sh", "NodeClaim"); err != nil {
		return c, err
	}
	if c.nodes, err = l.countKind(ctx, "", "Node"); err != nil {
		return c, err
	}
	var list appsv1.DeploymentList
	if err := l.sandbox.Kube.List(ctx, &list, client.InNamespace(corev1.NamespaceDefault)); err != nil {
		return c, err
	}
	for i := range list.Items {
		c.running += int(list.Items[i].Status.ReadyReplicas)
	}
	return c, nil
}

// countKind counts objects of our NodePool.
func (l *load) countKind(ctx context.Context, group, kind string) (int, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind + "List"})
	err := l.sandbox.Kube.List(ctx, list, client.HasLabels{karpenter.NodePoolLabelKey})
	return len(list.Items), err
}

// nodePool has one instance type, so that the pods need that many nodes.
func (l *load) nodePool() *karpenter.NodePool {
	requirement := func(key string, values ...string) karpenter.NodeSelectorRequirementWithMinValues {
		return karpenter.NodeSelectorRequirementWithMinValues{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
	}
	return &karpenter.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: karpenter.NodePoolSpec{
			Template: karpenter.NodeClaimTemplate{Spec: karpenter.NodeClaimTemplateSpec{
				NodeClassRef: &karpenter.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"},
				Requirements: []karpenter.NodeSelectorRequirementWithMinValues{
					requirement(corev1.LabelInstanceTypeStable, instanceType), requirement(karpenter.CapacityTypeLabelKey, karpenter.CapacityTypeOnDemand),
				},
				ExpireAfter: karpenter.MustParseNillableDuration("Never"),
			}},
			Disruption: karpenter.Disruption{
				ConsolidationPolicy: karpenter.ConsolidationPolicyWhenEmpty, ConsolidateAfter: karpenter.MustParseNillableDuration("5s"),
				Budgets: []karpenter.Budget{{Nodes: "100%"}},
			},
		},
	}
}

func (l *load) deployment(i int) *appsv1.Deployment {
	labels := map[string]string{"app": fmt.Sprintf("%s-%d", name, i)}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: labels["app"]},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(int32(l.pods() / deployments)), //nolint:gosec // thousands
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "pause", Image: "registry.k8s.io/pause:3.10",
					Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
						corev1.ResourceCPU: *resource.NewMilliQuantity(int64(allocatable/l.perNode), resource.DecimalSI),
					}},
				}}},
			},
		},
	}
}
