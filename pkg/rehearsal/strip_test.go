// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"fmt"
	"testing"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

func ownedBy(kind string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: "web", OwnerReferences: []metav1.OwnerReference{{Kind: kind, Name: "web", Controller: ptr.To(true)}}}
}

func TestWhatHasNoPodsOfItsOwnIsLeftToItsOwner(t *testing.T) {
	for name, test := range map[string]struct {
		object client.Object
		want   bool
	}{
		"a Deployment's ReplicaSet":  {&appsv1.ReplicaSet{ObjectMeta: ownedBy("Deployment")}, false},
		"a Rollout's ReplicaSet":     {&appsv1.ReplicaSet{ObjectMeta: ownedBy("Rollout")}, true},
		"an empty ReplicaSet":        {&appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](0)}}, false},
		"a ReplicaSet's pod":         {&corev1.Pod{ObjectMeta: ownedBy("ReplicaSet")}, false},
		"a static pod":               {&corev1.Pod{ObjectMeta: ownedBy("Node")}, false},
		"a pod of something unknown": {&corev1.Pod{ObjectMeta: ownedBy("TaskRun")}, true},
		"a pod of nobody":            {&corev1.Pod{}, true},
		"a pod that has ended":       {&corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}, false},
		"a job that runs":            {&batchv1.Job{}, true},
		"a job that has ended":       {&batchv1.Job{Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}}}, false},
		"Dovetail's own agent":       {&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app.kubernetes.io/name": "dovetail"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Cluster{}
			require.True(t, c.Add(test.object))
			require.Equal(t, test.want, len(c.Workloads) == 1)
		})
	}
	require.False(t, (&Cluster{}).Add(&corev1.Secret{}))
}

func TestPodsKeepTheirConstraintsAndTheirRequestsOnly(t *testing.T) {
	c := &Cluster{}
	spec := corev1.PodSpec{
		NodeName: "somewhere", NodeSelector: map[string]string{"team": "a"}, Tolerations: []corev1.Toleration{{Key: "dedicated"}}, HostNetwork: true, ServiceAccountName: "admin",
		InitContainers: []corev1.Container{{Name: "init", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}}},
		Containers: []corev1.Container{
			{Name: "a", Image: "a", Args: []string{"x"}, Ports: []corev1.ContainerPort{{HostPort: 9100, ContainerPort: 9100}, {ContainerPort: 80}}, EnvFrom: []corev1.EnvFromSource{{}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), "nvidia.com/gpu": resource.MustParse("1")}}},
			{Name: "b", Image: "b", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Mi")}}},
		},
		Overhead: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")},
		Volumes:  []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}}},
	}
	annotations := map[string]string{karpv1.DoNotDisruptAnnotationKey: "true", "vault/secret": "x"}
	c.Add(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}, Spec: spec}}})
	got := c.Workloads[0].(*appsv1.Deployment).Spec.Template
	require.Equal(t, map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"}, got.Annotations)
	container := got.Spec.Containers[0]
	require.Equal(t, "1250m", container.Resources.Requests.Cpu().String())
	require.Equal(t, "1Gi", container.Resources.Requests.Memory().String(), "an init container's, which is more")
	require.Equal(t, corev1.PodSpec{
		NodeSelector: spec.NodeSelector, Tolerations: spec.Tolerations, HostNetwork: true,
		Containers: []corev1.Container{{
			Name: "pause", Image: pause, Ports: []corev1.ContainerPort{{HostPort: 9100, ContainerPort: 9100}}, Resources: container.Resources,
		}},
	}, got.Spec)
	require.Equal(t, []string{"Deployment web: without its volumes, and the zones that these lie in", "Deployment web: without the nvidia.com/gpu that it asks for, which nodes do not have here"}, c.Simplified())
}

func TestAWSNodeKeepsItsSettings(t *testing.T) {
	c := &Cluster{}
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "aws-node", Env: []corev1.EnvVar{{Name: "ENABLE_PREFIX_DELEGATION", Value: "true"}, {Name: "MY_NODE_NAME", Value: "x"}, {Name: "TOKEN", Value: "secret"}}}, {Name: "aws-eks-nodeagent"}}}
	for _, name := range []string{"aws-node", "other"} {
		c.Add(&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name}, Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: spec}}})
	}
	require.Equal(t, []corev1.EnvVar{{Name: "ENABLE_PREFIX_DELEGATION", Value: "true"}}, podSpec(c.Workloads[0]).Containers[0].Env)
	require.Empty(t, podSpec(c.Workloads[1]).Containers[0].Env)
}

func TestARehearsalIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Cluster)
		want   string
	}{
		"no NodePool":            {func(c *Cluster) { c.NodePools = nil }, "there are 0 NodePools and 1 EC2NodeClasses"},
		"too many nodes":         {func(c *Cluster) { c.Nodes = make([]corev1.Node, MaxNodes+1) }, "there are 2001 nodes: a rehearsal is for at most 2000"},
		"too many pods":          {func(c *Cluster) { c.Workloads[1].(*appsv1.Deployment).Spec.Replicas = ptr.To[int32](MaxPods) }, "a rehearsal is for at most 30000"},
		"no VPC":                 {func(c *Cluster) { c.VPC = VPC{} }, "say its shape in vpc.yaml"},
		"a subnet elsewhere":     {func(c *Cluster) { c.VPC.CIDRs = c.VPC.CIDRs[:1] }, "its CIDR 100.64.0.0/19 is in none of the VPC's"},
		"two subnets of an id":   {func(c *Cluster) { c.VPC.Subnets[1].ID = c.VPC.Subnets[0].ID }, "has two subnets"},
		"taken elsewhere":        {func(c *Cluster) { c.VPC.Subnets[1].Taken = c.VPC.Subnets[0].Taken }, "taken 10.20.0.128/26 is not in 10.20.1.0/24"},
		"an unknown reservation": {func(c *Cluster) { c.VPC.Subnets[3].Reservations[0].Type = "both" }, `not "both"`},
		"a node's subnet":        {func(c *Cluster) { c.VPC.Nodes["x"] = NodeAddresses{Subnet: "subnet-9"} }, "node x has addresses of subnet subnet-9"},
		"a table's subnet":       {func(c *Cluster) { c.VPC.RouteTables[1].Subnets = []string{"subnet-9"} }, "is associated with subnet subnet-9"},
		"too many zones": {func(c *Cluster) {
			for i := range c.VPC.Subnets {
				c.VPC.Subnets[i].Zone = fmt.Sprint("eu-west-1", i)
			}
			c.VPC.Subnets = append(c.VPC.Subnets, Subnet{ID: "subnet-7", Zone: "eu-west-1x", CIDR: c.VPC.Subnets[0].CIDR})
		}, "7 zones"},
	} {
		t.Run(name, func(t *testing.T) {
			c := small(t)
			test.change(c)
			require.ErrorContains(t, c.Check(), test.want)
		})
	}
	c := small(t)
	c.Nodes[0].Labels[karpv1.NodePoolLabelKey] = "gone"
	require.NoError(t, c.Check())
	require.NotContains(t, c.Nodes[0].Labels, karpv1.NodePoolLabelKey)
}

func TestTheChangeIsTheClustersOwnPodNetworkWhereNoFileNamesOne(t *testing.T) {
	p := Params{Cluster: small(t)}
	_, _, err := p.split()
	require.ErrorContains(t, err, "there is no PodNetwork to rehearse: give one with -f")

	change, err := ReadChange("testdata/small.yaml")
	require.NoError(t, err)
	p.Cluster.PodNetworks = change.PodNetworks
	before, own, err := p.split()
	require.NoError(t, err)
	require.Empty(t, before.PodNetworks)
	require.Equal(t, change.PodNetworks, own.PodNetworks)

	p.Change = change
	before, given, err := p.split()
	require.NoError(t, err)
	require.Len(t, before.PodNetworks, 1, "the file changes what is there")
	require.Same(t, change, given)
}

func TestANodeClaimIsForANodeAsItIs(t *testing.T) {
	c := small(t)
	claim, odd := claimFor(&c.NodePools[0], &c.Nodes[1])
	require.Empty(t, odd)
	require.Equal(t, "default", claim.Labels[karpv1.NodePoolLabelKey])
	require.Equal(t, c.NodePools[0].Hash(), claim.Annotations[karpv1.NodePoolHashAnnotationKey], "or it drifts at once")
	values := lo.SliceToMap(claim.Spec.Requirements, func(r karpv1.NodeSelectorRequirementWithMinValues) (string, []string) { return r.Key, r.Values })
	require.Equal(t, []string{"m5.xlarge"}, values[corev1.LabelInstanceTypeStable])
	require.Equal(t, []string{"eu-west-1a"}, values[corev1.LabelTopologyZone])

	c.Nodes[1].Labels[corev1.LabelInstanceTypeStable] = "m4.xlarge"
	claim, odd = claimFor(&c.NodePools[0], &c.Nodes[1])
	require.Equal(t, []string{"node.kubernetes.io/instance-type=m4.xlarge"}, odd)
	values = lo.SliceToMap(claim.Spec.Requirements, func(r karpv1.NodeSelectorRequirementWithMinValues) (string, []string) { return r.Key, r.Values })
	require.Len(t, values[corev1.LabelInstanceTypeStable], 3)
}
