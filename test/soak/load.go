// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"
)

const (
	namespace  = "default"
	soakLabel  = "dovetail-soak"
	podNetwork = "default"
	// podPort is where each pod answers.
	podPort = 8080
	// podCPU lets 18 pods on a node of two processors.
	podCPU = "100m"
)

var zones = []string{"us-east-1a", "us-east-1b", "us-east-1c"}

// podSubnetCIDRs of the soak. Those of zones a and c have room for all the pods that may go there, also while nodes are replaced; zone b's
// for three nodes of 110 pods, so that it is nearly full whenever there are pods.
var podSubnetCIDRs = map[string]string{zones[0]: "100.64.96.0/21", zones[1]: "100.64.104.0/23", zones[2]: "100.64.112.0/21"}

// slot is a Deployment that comes, goes and changes size.
type slot struct {
	name string
	most int
	// zones that its pods may go to.
	zones []string
	// spot or on-demand nodes.
	capacity string
	// apart: one pod a node.
	apart bool
}

var slots = []slot{
	{name: "wide", most: 50, zones: []string{zones[0], zones[2]}, capacity: karpenter.CapacityTypeOnDemand},
	{name: "zone-a", most: 30, zones: zones[:1], capacity: karpenter.CapacityTypeOnDemand},
	{name: "zone-b", most: 40, zones: zones[1:2], capacity: karpenter.CapacityTypeOnDemand},
	{name: "zone-c", most: 30, zones: zones[2:], capacity: karpenter.CapacityTypeOnDemand},
	{name: "spot", most: 25, zones: []string{zones[0], zones[2]}, capacity: karpenter.CapacityTypeSpot},
	{name: "apart", most: 4, zones: []string{zones[0], zones[2]}, capacity: karpenter.CapacityTypeOnDemand, apart: true},
}

func slotOf(name string) slot {
	for _, s := range slots {
		if s.name == name {
			return s
		}
	}
	panic("no slot is called " + name) // Round names none but these
}

func (s slot) deployment(replicas int) *appsv1.Deployment {
	match := map[string]string{soakLabel: s.name}
	spec := corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(2)),
		Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: s.zones},
				{Key: karpenter.CapacityTypeLabelKey, Operator: corev1.NodeSelectorOpIn, Values: []string{s.capacity}},
			}}},
		}}},
		Containers: []corev1.Container{{
			Name: "netprobe", Image: "netprobe", Command: []string{"netprobe"}, Args: []string{"serve", fmt.Sprintf("0.0.0.0:%d", podPort)},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(podCPU)}},
		}},
	}
	if s.apart {
		spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: match},
		}}}
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: s.name},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(replicas)), //nolint:gosec // tens
			Selector: &metav1.LabelSelector{MatchLabels: match},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: match}, Spec: spec},
		},
	}
}

// nodePool of one capacity type, of small nodes.
func nodePool(capacity string) *karpenter.NodePool {
	pool := &karpenter.NodePool{ObjectMeta: metav1.ObjectMeta{Name: capacity}}
	pool.Spec.Template.Spec.NodeClassRef = &karpenter.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
	pool.Spec.Template.Spec.ExpireAfter = karpenter.MustParseNillableDuration("720h")
	for _, r := range []corev1.NodeSelectorRequirement{
		{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"linux"}},
		{Key: corev1.LabelArchStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"amd64"}},
		{Key: karpenter.CapacityTypeLabelKey, Operator: corev1.NodeSelectorOpIn, Values: []string{capacity}},
		{Key: "karpenter.k8s.aws/instance-category", Operator: corev1.NodeSelectorOpIn, Values: []string{"c", "m", "r"}},
		{Key: "karpenter.k8s.aws/instance-generation", Operator: corev1.NodeSelectorOpGt, Values: []string{"4"}},
		{Key: "karpenter.k8s.aws/instance-cpu", Operator: corev1.NodeSelectorOpIn, Values: []string{"2"}},
	} {
		pool.Spec.Template.Spec.Requirements = append(pool.Spec.Template.Spec.Requirements, karpenter.NodeSelectorRequirementWithMinValues{
			Key: r.Key, Operator: r.Operator, Values: r.Values,
		})
	}
	pool.Spec.Disruption = karpenter.Disruption{
		ConsolidationPolicy: karpenter.ConsolidationPolicyWhenEmptyOrUnderutilized,
		ConsolidateAfter:    karpenter.MustParseNillableDuration("15s"),
		Budgets: []karpenter.Budget{
			{Nodes: "100%", Reasons: []karpenter.DisruptionReason{karpenter.DisruptionReasonEmpty}},
			{Nodes: "20%", Reasons: []karpenter.DisruptionReason{karpenter.DisruptionReasonUnderutilized, karpenter.DisruptionReasonDrifted}},
		},
	}
	return pool
}

// prepare gives the cluster what the pods need: the examples, with small pod subnets in place of the sandbox's, two NodePools and the
// Deployments, without pods.
func (s *soak) prepare(ctx context.Context) (err error) {
	if _, err := s.user.Apply(ctx, "Deployment", "NodePool"); err != nil {
		return err
	}
	if s.subnets, err = s.user.CreatePodSubnets(ctx, "soak", podSubnetCIDRs); err != nil {
		return err
	}
	if err := s.user.UsePodSubnets(ctx, podNetwork, s.subnets); err != nil {
		return err
	}
	for _, capacity := range []string{karpenter.CapacityTypeOnDemand, karpenter.CapacityTypeSpot} {
		if err := s.user.Kube.Create(ctx, nodePool(capacity)); err != nil {
			return fmt.Errorf("creating NodePool %s: %w", capacity, err)
		}
	}
	for _, slot := range slots {
		if err := s.user.Kube.Create(ctx, slot.deployment(0)); err != nil {
			return fmt.Errorf("creating Deployment %s: %w", slot.name, err)
		}
	}
	return nil
}
