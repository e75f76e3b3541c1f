// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"fmt"
	"strconv"
	"time"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// ReasonMaxPodsLowered is the event on a node class whose kubelet.maxPods is more than an instance type can serve.
const ReasonMaxPodsLowered = "MaxPodsLowered"

// tellLowered says on the node class that a node was launched with fewer pods than it asks for: a kubelet that takes more pods
// than there are addresses leaves them hanging.
func (c *CloudProvider) tellLowered(nodeClass *ec2nodeclass.EC2NodeClass, network *v1alpha1.PodNetwork, created *karpv1.NodeClaim) {
	launched, err := strconv.Atoi(created.Labels[v1alpha1.LabelMaxPods])
	kubelet := nodeClass.Spec.Kubelet
	if err != nil || kubelet == nil || kubelet.MaxPods == nil || int(*kubelet.MaxPods) <= launched {
		return
	}
	instanceType := created.Labels[corev1.LabelInstanceTypeStable]
	c.Recorder.Publish(events.Event{
		InvolvedObject: nodeClass, Type: corev1.EventTypeWarning, Reason: ReasonMaxPodsLowered,
		Message:      fmt.Sprintf("spec.kubelet.maxPods %d is more than a %s serves on pod network %s: its nodes are launched with %d", *kubelet.MaxPods, instanceType, network.Name, launched),
		DedupeValues: []string{nodeClass.Name, instanceType, strconv.Itoa(launched)}, DedupeTimeout: time.Hour,
	})
}
