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
	look         = 2 * time.Second
)

// load is what the controller gets to do: wave after wave of pods that need new nodes, each when the pods of the one before
// run. (With all pods at once, most of a small machine goes to the scheduler, which tries thousands of pods again for each
// node that comes.)
type load struct {
	waves, nodesPerWave, podsPerNode int
	deadline                         time.Duration
	sandbox                          *scenario.Sandbox

	started time.Time
	// Measured times.
	registered, running, gone time.Duration
}

func (l *load) nodes() int { return l.waves * l.nodesPerWave }

func (l *load) measure(ctx context.Context) error {
	if err := l.machines(ctx); err != nil {
		return err
	}
	if _, err := l.sandbox.Apply(ctx, "Deployment", "NodePool"); err != nil {
		return err
	}
	if err := l.sandbox.Kube.Create(ctx, l.nodePool()); err != nil {
		return err
	}
	l.started = time.Now()
	for wave := range l.waves {
		if err := l.sandbox.Kube.Create(ctx, l.deployment(wave)); err != nil {
			return err
		}
		if err := l.wait(ctx, (wave+1)*l.nodesPerWave*l.podsPerNode); err != nil {
			return err
		}
	}
	l.running = time.Since(l.started)
	if err := l.end(ctx); err != nil {
		return err
	}
	for _, figure := range []struct {
		name string
		took time.Duration
	}{
		{fmt.Sprintf("%d nodes registered", l.nodes()), l.registered},
		{fmt.Sprintf("%d pods running", l.nodes()*l.podsPerNode), l.running},
		{"pods gone to nothing left", l.gone},
	} {
		fmt.Printf("%-40s %8.1f s\n", figure.name, figure.took.Seconds())
	}
	return nil
}

// wait until that many pods run.
func (l *load) wait(ctx context.Context, pods int) error {
	for {
		now, err := l.count(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("%8.1f s  %5d node claims %5d nodes %6d of %d pods running\n", time.Since(l.started).Seconds(), now.claims, now.nodes, now.running, pods)
		if l.registered == 0 && now.nodes >= l.nodes() {
			l.registered = time.Since(l.started)
		}
		if now.running >= pods {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d pods run: %w", now.running, pods, ctx.Err())
		case <-time.After(look):
		}
	}
}

// end deletes the pods, and waits until nothing is left of their nodes.
func (l *load) end(ctx context.Context) error {
	started := time.Now()
	for wave := range l.waves {
		if err := l.sandbox.Kube.Delete(ctx, l.deployment(wave), client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
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
	if !left.None() {
		return fmt.Errorf("left over: %s", left)
	}
	l.gone = time.Since(started)
	return nil
}

// counts of what there is.
type counts struct{ claims, nodes, running int }

// count asks for little, to leave the machine to what is measured.
func (l *load) count(ctx context.Context) (c counts, err error) {
	if c.claims, err = l.countKind(ctx, "karpenter.sh", "NodeClaim", karpenter.NodePoolLabelKey); err != nil {
		return c, err
	}
	if c.nodes, err = l.countKind(ctx, "", "Node", karpenter.NodePoolLabelKey); err != nil {
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

// countKind counts objects that have a label.
func (l *load) countKind(ctx context.Context, group, kind, label string) (int, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind + "List"})
	err := l.sandbox.Kube.List(ctx, list, client.HasLabels{label})
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

func (l *load) deployment(wave int) *appsv1.Deployment {
	labels := map[string]string{"app": fmt.Sprintf("%s-%d", name, wave)}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: labels["app"]},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(int32(l.nodesPerWave * l.podsPerNode)), //nolint:gosec // thousands
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "pause", Image: "registry.k8s.io/pause:3.10",
					Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
						corev1.ResourceCPU: *resource.NewMilliQuantity(int64(allocatable/l.podsPerNode), resource.DecimalSI),
					}},
				}}},
			},
		},
	}
}
