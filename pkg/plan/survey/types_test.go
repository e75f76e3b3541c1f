// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"fmt"
	"testing"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/ec2read"
	"github.com/dovetail-dev/dovetail/pkg/plan"
)

func TestOnlyTypesThatAPlanTellsOfAreAsked(t *testing.T) {
	pool := func(wants ...corev1.NodeSelectorRequirement) karpv1.NodePool {
		var p karpv1.NodePool
		p.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
		for _, w := range wants {
			p.Spec.Template.Spec.Requirements = append(p.Spec.Template.Spec.Requirements, karpv1.NodeSelectorRequirementWithMinValues{Key: w.Key, Operator: w.Operator, Values: w.Values})
		}
		return p
	}
	in := func(key string, values ...string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
	}
	labelled := pool()
	labelled.Spec.Template.Labels = map[string]string{ec2nodeclass.LabelInstanceFamily: "r6g"}
	var many []string
	for i := range ec2read.ValuesPerFilter + 1 {
		many = append(many, fmt.Sprint("m5.", i))
	}
	nodes := []plan.Node{{InstanceType: "t3.small"}, {InstanceType: "m5.large"}, {InstanceType: "t3.small"}, {}}
	for name, test := range map[string]struct {
		pools []karpv1.NodePool
		nodes []plan.Node
		want  []string
	}{
		"nothing is known":                {nil, nil, nil},
		"nodes without Karpenter":         {nil, nodes, []string{"m5.large", "t3.small"}},
		"a pool that takes any":           {[]karpv1.NodePool{pool(in(corev1.LabelInstanceTypeStable, "m5.large")), pool()}, nodes, nil},
		"by type, and what nodes are of":  {[]karpv1.NodePool{pool(in(corev1.LabelInstanceTypeStable, "m5.large", "c5.large"))}, nodes, []string{"c5.large", "m5.large", "t3.small"}},
		"by family":                       {[]karpv1.NodePool{pool(in(ec2nodeclass.LabelInstanceFamily, "c5"))}, nil, []string{"c5.*"}},
		"by a label":                      {[]karpv1.NodePool{labelled}, nil, []string{"r6g.*"}},
		"by category and by what is less": {[]karpv1.NodePool{pool(in(ec2nodeclass.LabelInstanceCategory, "c"), in(ec2nodeclass.LabelInstanceFamily, "c6i"))}, nil, []string{"c6i.*"}},
		"all but one category":            {[]karpv1.NodePool{pool(corev1.NodeSelectorRequirement{Key: ec2nodeclass.LabelInstanceCategory, Operator: corev1.NodeSelectorOpNotIn, Values: []string{"t"}})}, nodes, nil},
		"categories of two pools":         {[]karpv1.NodePool{pool(in(ec2nodeclass.LabelInstanceCategory, "c")), pool(in(ec2nodeclass.LabelInstanceCategory, "m"))}, nil, []string{"c*", "m*"}},
		"more than a filter takes":        {[]karpv1.NodePool{pool(in(corev1.LabelInstanceTypeStable, many...))}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, typesAsked(test.pools, test.nodes)) })
	}
}
