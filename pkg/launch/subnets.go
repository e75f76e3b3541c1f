// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/providers/subnet"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
)

// Subnets is upstream's subnet provider, told that a launch on a pod network takes one address of the node subnet: its
// pods live elsewhere. Upstream would subtract one for each pod and take the subnet for full long before it is.
type Subnets struct {
	subnet.Provider
}

// ZonalSubnetsForLaunch picks the subnet with most free addresses in each zone.
func (s Subnets) ZonalSubnetsForLaunch(ctx context.Context, nodeClass *ec2nodeclass.EC2NodeClass, instanceTypes []*cloudprovider.InstanceType, capacityType string) (map[string]*subnet.Subnet, error) {
	return s.Provider.ZonalSubnetsForLaunch(ctx, nodeClass, lo.Map(instanceTypes, takingOneAddress), capacityType)
}

// UpdateInflightIPs corrects the prediction with what the fleet launched.
func (s Subnets) UpdateInflightIPs(input *ec2.CreateFleetInput, output *ec2.CreateFleetOutput, instanceTypes []*cloudprovider.InstanceType, subnets []*subnet.Subnet, capacityType string) {
	s.Provider.UpdateInflightIPs(input, output, lo.Map(instanceTypes, takingOneAddress), subnets, capacityType)
}

// takingOneAddress copies the type: upstream counts an address for each pod that it can hold.
func takingOneAddress(it *cloudprovider.InstanceType, _ int) *cloudprovider.InstanceType {
	if !onPodNetwork(it) {
		return it
	}
	return &cloudprovider.InstanceType{
		Name:         it.Name,
		Requirements: it.Requirements,
		Offerings:    it.Offerings,
		Capacity:     lo.Assign(it.Capacity, corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(1, resource.DecimalSI)}),
		Overhead:     it.Overhead,
	}
}
