// SPDX-License-Identifier: Apache-2.0

// Package rehearsal runs the migration of a cluster somewhere else first: it takes the shape of a cluster and its VPC, without what
// may be secret, builds the same on a stage, applies the change there, and reports what the real controllers made of it.
//
// The stage is a sandbox of hollow nodes. This package knows it as two APIs, Kubernetes and EC2, and does not import pkg/sandbox:
// cmd/dovetail brings the two together.
package rehearsal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Bounds of a rehearsal: what one machine holds. test/scale has run 1,000 nodes with 10,000 pods.
const (
	MaxNodes = 2000
	MaxPods  = 30_000
)

// Cluster is the shape of one: what decides where pods can be and how fast nodes are replaced.
type Cluster struct {
	NodePools       []karpv1.NodePool
	NodeClasses     []ec2nodeclass.EC2NodeClass
	ENIConfigs      []eniconfig.ENIConfig
	PodNetworks     []v1alpha1.PodNetwork
	NodeMigrations  []v1alpha1.NodeMigration
	Budgets         []policyv1.PodDisruptionBudget
	PriorityClasses []schedulingv1.PriorityClass
	// Workloads are Deployments, StatefulSets, DaemonSets, Jobs, ReplicaSets and Pods that belong to nobody.
	Workloads []client.Object
	// Nodes as they are, without what only their kubelets know. Without any, Karpenter makes the first ones for the workloads.
	Nodes []corev1.Node
	VPC   VPC

	// simplified counts what the stage has not as the cluster has it, by what it is.
	simplified map[string]int
}

// note something that is simplified.
func (c *Cluster) note(format string, args ...any) {
	if c.simplified == nil {
		c.simplified = map[string]int{}
	}
	c.simplified[fmt.Sprintf(format, args...)]++
}

// Simplified says what the stage has not as the cluster has it.
func (c *Cluster) Simplified() []string {
	var lines []string
	for _, line := range slices.Sorted(maps.Keys(c.simplified)) {
		if n := c.simplified[line]; n > 1 {
			line = fmt.Sprintf("%s (%d times)", line, n)
		}
		lines = append(lines, line)
	}
	return lines
}

// Add an object, reduced to its shape. It returns false for kinds that do not matter here.
func (c *Cluster) Add(object client.Object) bool {
	switch o := object.(type) {
	case *karpv1.NodePool:
		c.NodePools = append(c.NodePools, c.nodePool(o))
	case *ec2nodeclass.EC2NodeClass:
		c.NodeClasses = append(c.NodeClasses, c.nodeClass(o))
	case *eniconfig.ENIConfig:
		if owner := metav1.GetControllerOf(o); owner != nil && owner.Kind == "PodNetwork" {
			return true // the controller makes it again, from spec.provision and the subnets that are there
		}
		c.ENIConfigs = append(c.ENIConfigs, eniconfig.ENIConfig{ObjectMeta: named(o), Spec: o.Spec})
	case *v1alpha1.PodNetwork:
		c.PodNetworks = append(c.PodNetworks, v1alpha1.PodNetwork{ObjectMeta: named(o), Spec: o.Spec})
	case *v1alpha1.NodeMigration:
		c.NodeMigrations = append(c.NodeMigrations, v1alpha1.NodeMigration{ObjectMeta: named(o), Spec: o.Spec})
	case *policyv1.PodDisruptionBudget:
		c.Budgets = append(c.Budgets, policyv1.PodDisruptionBudget{ObjectMeta: named(o), Spec: o.Spec})
	case *schedulingv1.PriorityClass:
		if !strings.HasPrefix(o.Name, "system-") { // each cluster has those
			c.PriorityClasses = append(c.PriorityClasses, schedulingv1.PriorityClass{ObjectMeta: named(o), Value: o.Value, GlobalDefault: o.GlobalDefault, PreemptionPolicy: o.PreemptionPolicy})
		}
	case *corev1.Node:
		c.node(o)
	case *appsv1.Deployment, *appsv1.StatefulSet, *appsv1.DaemonSet, *appsv1.ReplicaSet, *batchv1.Job, *corev1.Pod:
		if workload := c.workload(object); workload != nil {
			c.Workloads = append(c.Workloads, workload)
		}
	default:
		return false
	}
	return true
}

// Apply a change: its objects stand for those of the same name.
func (c *Cluster) Apply(change *Cluster) {
	c.NodePools = replaced(c.NodePools, change.NodePools)
	c.NodeClasses = replaced(c.NodeClasses, change.NodeClasses)
	c.ENIConfigs = replaced(c.ENIConfigs, change.ENIConfigs)
	c.PodNetworks = replaced(c.PodNetworks, change.PodNetworks)
	c.NodeMigrations = replaced(c.NodeMigrations, change.NodeMigrations)
}

// object is what *T is for the kinds of a Cluster.
type object[T any] interface {
	*T
	client.Object
}

func replaced[T any, O object[T]](list, by []T) []T {
	kept := slices.DeleteFunc(slices.Clone(list), func(old T) bool {
		return slices.ContainsFunc(by, func(now T) bool { return O(&old).GetName() == O(&now).GetName() })
	})
	return append(kept, by...)
}

// Objects of the cluster but for its Nodes, in the order in which they can be created.
func (c *Cluster) Objects() []client.Object {
	return slices.Concat(objects(c.PriorityClasses), objects(c.NodeClasses), objects(c.NodePools), objects(c.ENIConfigs),
		objects(c.Budgets), objects(c.PodNetworks), objects(c.NodeMigrations), c.Workloads)
}

func objects[T any, O object[T]](list []T) []client.Object {
	all := make([]client.Object, len(list))
	for i := range list {
		all[i] = O(&list[i])
	}
	return all
}

// Pods that the workloads have, those of DaemonSets as though each ran on every node.
func (c *Cluster) Pods() int {
	pods := 0
	for _, workload := range c.Workloads {
		switch o := workload.(type) {
		case *appsv1.Deployment:
			pods += int(ptr.Deref(o.Spec.Replicas, 1))
		case *appsv1.StatefulSet:
			pods += int(ptr.Deref(o.Spec.Replicas, 1))
		case *appsv1.ReplicaSet:
			pods += int(ptr.Deref(o.Spec.Replicas, 1))
		case *batchv1.Job:
			pods += int(ptr.Deref(o.Spec.Parallelism, 1))
		case *appsv1.DaemonSet:
			pods += len(c.Nodes)
		default:
			pods++
		}
	}
	return pods
}

// Check that a rehearsal can be made of it.
func (c *Cluster) Check() error {
	switch {
	case len(c.NodePools) == 0 || len(c.NodeClasses) == 0:
		return fmt.Errorf("there are %d NodePools and %d EC2NodeClasses: a rehearsal needs one of each, for it is Karpenter that replaces nodes", len(c.NodePools), len(c.NodeClasses))
	case len(c.Nodes) > MaxNodes:
		return fmt.Errorf("there are %d nodes: a rehearsal is for at most %d; rehearse a part of the cluster with --from-dir", len(c.Nodes), MaxNodes)
	case c.Pods() > MaxPods:
		return fmt.Errorf("there are %d pods: a rehearsal is for at most %d; rehearse a part of the cluster with --from-dir", c.Pods(), MaxPods)
	}
	for i := range c.Nodes {
		pool := c.Nodes[i].Labels[karpv1.NodePoolLabelKey]
		if pool != "" && !slices.ContainsFunc(c.NodePools, func(p karpv1.NodePool) bool { return p.Name == pool }) {
			c.note("Node of NodePool %s, which is not there: as a node that Karpenter does not own", pool)
			delete(c.Nodes[i].Labels, karpv1.NodePoolLabelKey)
		}
	}
	return c.VPC.check()
}

// sort what came in any order, so that two readings of the same cluster are the same.
func (c *Cluster) sort() {
	slices.SortFunc(c.Nodes, func(a, b corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(c.Workloads, func(a, b client.Object) int {
		return cmp.Or(cmp.Compare(kindOf(a), kindOf(b)), cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
}
