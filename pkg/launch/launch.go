// SPDX-License-Identifier: Apache-2.0

// Package launch puts pod networks into the seams that karpenter-provider-aws offers between an EC2NodeClass and a
// fleet request: what an instance type can hold (InstanceTypes), where it can be had (Offerings), what it takes from
// the node subnet (Subnets), what its user data says (Templates), and which types go into one request (Groups).
//
// The numbers are computed once, in InstanceTypes, and travel on the instance type: the scheduler reads them there, and
// so does Templates.
package launch

import (
	"context"
	"strconv"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// NetworkOf finds the PodNetwork of a node class, nil when there is none.
type NetworkOf func(context.Context, client.Object) (*v1alpha1.PodNetwork, error)

// NetworksIn reads PodNetworks from a (cached) reader.
func NetworksIn(reader client.Reader) NetworkOf {
	return func(ctx context.Context, object client.Object) (*v1alpha1.PodNetwork, error) {
		nodeClass, ok := object.(*ec2nodeclass.EC2NodeClass)
		if !ok {
			return nil, nil
		}
		return podnetwork.ForNodeClass(ctx, reader, nodeClass)
	}
}

// onPodNetwork tells whether InstanceTypes resolved this instance type for a pod network.
func onPodNetwork(it *cloudprovider.InstanceType) bool {
	return it.Requirements.Get(v1alpha1.LabelPodNetwork).Len() == 1
}

// geometry and max-pods of an instance type on a pod network: what a homogeneous group has in common.
type shape struct {
	enis, ipsPerENI, maxPods int
}

func shapeOf(it *cloudprovider.InstanceType) shape {
	return shape{
		enis:      integer(it, v1alpha1.LabelENIs),
		ipsPerENI: integer(it, v1alpha1.LabelIPsPerENI),
		maxPods:   integer(it, v1alpha1.LabelMaxPods),
	}
}

// integer reads a label that InstanceTypes wrote.
func integer(it *cloudprovider.InstanceType, label string) int {
	value, err := strconv.Atoi(it.Requirements.Get(label).Any())
	if err != nil {
		return 0
	}
	return value
}
