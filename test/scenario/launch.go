// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	karpenteraws "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// requirements are the values that a NodePool allows for a label.
type requirements map[string][]string

// launchParams ask for one node with certain properties: a NodePool that can make nothing else, and a pod that fits only
// there.
type launchParams struct {
	// Name of the NodePool and of the pod.
	Name string
	// NodeClass is by default the examples'.
	NodeClass    string
	Requirements requirements
	// CPULimit of the NodePool; empty for none.
	CPULimit string
}

type launch struct {
	pool *karpenter.NodePool
	pod  *corev1.Pod
}

// launch makes the NodePool and the pod, and waits for nothing.
func (s *Sandbox) launch(ctx context.Context, p launchParams) (launch, error) {
	if p.NodeClass == "" {
		nodeClass, err := s.exampleNodeClass(ctx)
		if err != nil {
			return launch{}, err
		}
		p.NodeClass = nodeClass.Name
	}
	allowed := requirements{
		corev1.LabelOSStable:           {"linux"},
		corev1.LabelArchStable:         {"amd64"},
		karpenter.CapacityTypeLabelKey: {karpenter.CapacityTypeOnDemand},
	}
	maps.Copy(allowed, p.Requirements)
	pool := &karpenter.NodePool{ObjectMeta: metav1.ObjectMeta{Name: p.Name}}
	pool.Spec.Template.Labels = map[string]string{probeLabel: p.Name}
	pool.Spec.Template.Spec.NodeClassRef = &karpenter.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: p.NodeClass}
	pool.Spec.Template.Spec.ExpireAfter = karpenter.MustParseNillableDuration("Never")
	for _, key := range slices.Sorted(maps.Keys(allowed)) {
		pool.Spec.Template.Spec.Requirements = append(pool.Spec.Template.Spec.Requirements, karpenter.NodeSelectorRequirementWithMinValues{
			Key: key, Operator: corev1.NodeSelectorOpIn, Values: allowed[key],
		})
	}
	if p.CPULimit != "" {
		pool.Spec.Limits = karpenter.Limits{corev1.ResourceCPU: resource.MustParse(p.CPULimit)}
	}
	pool.Spec.Disruption.ConsolidateAfter = karpenter.MustParseNillableDuration("Never")
	if err := s.Kube.Create(ctx, pool); err != nil {
		return launch{}, fmt.Errorf("creating NodePool %s: %w", p.Name, err)
	}
	pod := newPod(podParams{Name: p.Name, NodeSelector: map[string]string{probeLabel: p.Name}, CPU: "100m"})
	if err := s.Kube.Create(ctx, pod); err != nil {
		return launch{pool: pool}, fmt.Errorf("creating pod %s: %w", p.Name, err)
	}
	return launch{pool: pool, pod: pod}, nil
}

// endLaunches deletes the pods and NodePools, and with these their nodes. It does not wait for the nodes' end.
func (s *Sandbox) endLaunches(ctx context.Context, launches []launch) error {
	var problems []error
	var pods []*corev1.Pod
	for _, one := range launches {
		if one.pod != nil {
			pods = append(pods, one.pod)
		}
	}
	problems = append(problems, s.deletePods(ctx, pods))
	for _, one := range launches {
		if one.pool != nil {
			problems = append(problems, client.IgnoreNotFound(s.Kube.Delete(ctx, one.pool)))
		}
	}
	return errors.Join(problems...)
}

// exampleNodeClass reads the one EC2NodeClass that the examples made.
func (s *Sandbox) exampleNodeClass(ctx context.Context) (*karpenteraws.EC2NodeClass, error) {
	objects, err := s.manifests()
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		if object.GetKind() == "EC2NodeClass" {
			nodeClass := &karpenteraws.EC2NodeClass{}
			err := s.Kube.Get(ctx, client.ObjectKeyFromObject(object), nodeClass)
			return nodeClass, err
		}
	}
	return nil, errors.New("the examples have no EC2NodeClass")
}
