// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
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
	Launches *Launches
}

// ZonalSubnetsForLaunch picks the subnet with most free addresses in each zone.
func (s Subnets) ZonalSubnetsForLaunch(ctx context.Context, nodeClass *ec2nodeclass.EC2NodeClass, instanceTypes []*cloudprovider.InstanceType, capacityType string) (map[string]*subnet.Subnet, error) {
	zonal, err := s.Provider.ZonalSubnetsForLaunch(ctx, nodeClass, lo.Map(instanceTypes, takingOneAddress), capacityType)
	if launch := s.Launches.of(nodeClass); launch != nil && err == nil {
		launch.nodeSubnets = lo.MapValues(zonal, func(s *subnet.Subnet, _ string) string { return s.ID })
	}
	return zonal, err
}

// UpdateInflightIPs corrects the prediction with what the fleet launched. Upstream reads the node subnets from the request's
// overrides; those of templates with pod ENIs have none, but their zone tells it.
func (s Subnets) UpdateInflightIPs(input *ec2.CreateFleetInput, output *ec2.CreateFleetOutput, instanceTypes []*cloudprovider.InstanceType, subnets []*subnet.Subnet, capacityType string) {
	inZone := lo.SliceToMap(subnets, func(s *subnet.Subnet) (string, string) { return s.Zone, s.ID })
	complete := *input
	complete.LaunchTemplateConfigs = lo.Map(input.LaunchTemplateConfigs, func(c ec2types.FleetLaunchTemplateConfigRequest, _ int) ec2types.FleetLaunchTemplateConfigRequest {
		c.Overrides = lo.Map(c.Overrides, func(o ec2types.FleetLaunchTemplateOverridesRequest, _ int) ec2types.FleetLaunchTemplateOverridesRequest {
			if id := inZone[aws.ToString(o.AvailabilityZone)]; o.SubnetId == nil && id != "" {
				o.SubnetId = &id
			}
			return o
		})
		return c
	})
	s.Provider.UpdateInflightIPs(&complete, output, lo.Map(instanceTypes, takingOneAddress), subnets, capacityType)
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
