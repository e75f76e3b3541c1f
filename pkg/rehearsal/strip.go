// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"fmt"
	"slices"
	"strings"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// named is an object's name and labels, and nothing else of its metadata.
func named(o metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName(), Labels: o.GetLabels()}
}

// kindOf a typed object, which need not say it itself.
func kindOf(object client.Object) string {
	gvk, err := apiutil.GVKForObject(object, scheme.Scheme)
	if err != nil {
		return fmt.Sprintf("%T", object) // only of kinds that Add does not take
	}
	return gvk.Kind
}

func nameOf(object client.Object) string {
	if object.GetNamespace() == "" {
		return kindOf(object) + " " + object.GetName()
	}
	return kindOf(object) + " " + object.GetNamespace() + "/" + object.GetName()
}

// nodePool without what nobody on the stage would act on, or would act on within the rehearsal.
func (c *Cluster) nodePool(o *karpv1.NodePool) karpv1.NodePool {
	pool := karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: o.Name}, Spec: *o.Spec.DeepCopy()}
	pool.Spec.Template.Annotations = nil
	if len(pool.Spec.Template.Spec.StartupTaints) > 0 {
		c.note("NodePool %s: startup taints are left out, as nobody is there to remove them", o.Name)
		pool.Spec.Template.Spec.StartupTaints = nil
	}
	budgets := slices.DeleteFunc(pool.Spec.Disruption.Budgets, func(b karpv1.Budget) bool { return b.Schedule != nil })
	if len(budgets) != len(o.Spec.Disruption.Budgets) {
		c.note("NodePool %s: disruption budgets with a schedule are left out: a rehearsal has no time of day", o.Name)
		if len(budgets) == 0 {
			budgets = []karpv1.Budget{{Nodes: "10%"}} // what Karpenter takes where none is given
		}
	}
	pool.Spec.Disruption.Budgets = budgets
	return pool
}

// images that a node class has on the stage, by family in small letters: the latest.
var images = map[string]string{
	"al2": "al2@latest", "al2023": "al2023@latest", "bottlerocket": "bottlerocket@latest",
}

// nodeClass with what decides where nodes are, how many pods they hold and what these can have of them. User data, tags, keys and ids
// of images and snapshots stay out.
func (c *Cluster) nodeClass(o *ec2nodeclass.EC2NodeClass) ec2nodeclass.EC2NodeClass {
	s := o.Spec.DeepCopy()
	class := ec2nodeclass.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: o.Name, Labels: o.Labels}, Spec: ec2nodeclass.EC2NodeClassSpec{
		SubnetSelectorTerms: s.SubnetSelectorTerms, SecurityGroupSelectorTerms: s.SecurityGroupSelectorTerms,
		AssociatePublicIPAddress: s.AssociatePublicIPAddress, Kubelet: s.Kubelet, InstanceStorePolicy: s.InstanceStorePolicy, MetadataOptions: s.MetadataOptions,
		IPPrefixCount: s.IPPrefixCount,
	}}
	image := images[strings.ToLower(o.AMIFamily())]
	if image == "" {
		image = images["al2023"]
		c.note("EC2NodeClass %s: its images, of family %s, are AL2023's here", o.Name, o.AMIFamily())
	}
	class.Spec.AMISelectorTerms = []ec2nodeclass.AMISelectorTerm{{Alias: image}}
	for _, b := range s.BlockDeviceMappings {
		if b.EBS != nil {
			b.EBS = &ec2nodeclass.BlockDevice{VolumeSize: b.EBS.VolumeSize, VolumeType: b.EBS.VolumeType}
		}
		class.Spec.BlockDeviceMappings = append(class.Spec.BlockDeviceMappings, b)
	}
	for what, has := range map[string]bool{
		"user data": s.UserData != nil, "capacity reservations": len(s.CapacityReservationSelectorTerms) > 0, "the placement group": s.PlacementGroupSelector != nil,
		"network interfaces of its own": len(s.NetworkInterfaces) > 0,
	} {
		if has {
			c.note("EC2NodeClass %s: without %s", o.Name, what)
		}
	}
	return class
}

// node with its labels, taints and size: Fargate's and Windows' stay out.
func (c *Cluster) node(o *corev1.Node) {
	switch {
	case o.Labels["eks.amazonaws.com/compute-type"] == "fargate":
		c.note("a Fargate node is left out, its pods are not")
		return
	case o.Labels[corev1.LabelOSStable] == string(corev1.Windows):
		c.note("a Windows node is left out, its pods are not")
		return
	case o.Labels["eks.amazonaws.com/compute-type"] == "auto":
		c.note("a node of EKS Auto Mode is left out, its pods are not")
		return
	}
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: o.Name, Labels: map[string]string{}}}
	for key, value := range o.Labels {
		if key != corev1.LabelHostname && !strings.HasPrefix(key, v1alpha1.Group+"/") {
			node.Labels[key] = value
		}
	}
	for _, taint := range o.Spec.Taints {
		if !strings.HasPrefix(taint.Key, "node.kubernetes.io/") && !strings.HasPrefix(taint.Key, "karpenter.sh/") {
			node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: taint.Key, Value: taint.Value, Effect: taint.Effect})
		}
	}
	node.Spec.Unschedulable = o.Spec.Unschedulable
	node.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: *o.Status.Allocatable.Pods()}
	c.Nodes = append(c.Nodes, node)
}
