// SPDX-License-Identifier: Apache-2.0

package podcapacity

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// GeometryOf reads an instance type's geometry from EC2's record. MaximumNetworkInterfaces there is the sum over all
// network cards, so the default card's own figure is taken where cards are listed.
func GeometryOf(info ec2types.InstanceTypeInfo) Geometry {
	g := Geometry{
		PrefixCapable: info.Hypervisor == ec2types.InstanceTypeHypervisorNitro || aws.ToBool(info.BareMetal),
	}
	if info.VCpuInfo != nil {
		g.VCPUs = int(aws.ToInt32(info.VCpuInfo.DefaultVCpus))
	}
	network := info.NetworkInfo
	if network == nil {
		return g
	}
	g.IPsPerENI = int(aws.ToInt32(network.Ipv4AddressesPerInterface))
	g.ENIs = int(aws.ToInt32(network.MaximumNetworkInterfaces))
	for _, card := range network.NetworkCards {
		if aws.ToInt32(card.NetworkCardIndex) == aws.ToInt32(network.DefaultNetworkCardIndex) {
			g.ENIs = int(aws.ToInt32(card.MaximumNetworkInterfaces))
		}
	}
	return g
}
