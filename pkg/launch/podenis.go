// SPDX-License-Identifier: Apache-2.0

package launch

import (
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily"
	"github.com/samber/lo"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// podENIs is what a static launch brings on top of the primary ENI: the prefixes, or single addresses, of each pod ENI.
type podENIs struct {
	prefixes bool
	counts   []int
}

// podENIsOf an instance type on a pod network: as few ENIs as hold the addresses of its max-pods, filled one after the other.
// A slot holds a /28 where the network wants prefixes and the type is capable of them, else an address.
func podENIsOf(it *cloudprovider.InstanceType, prefixDelegation bool) podENIs {
	s := shapeOf(it)
	prefixes := prefixDelegation && prefixCapable(func(label string) string { return it.Requirements.Get(label).Any() })
	need := podcapacity.NodeNeed{MaxPods: s.maxPods, PodENIs: s.enis - 1, IPsPerENI: s.ipsPerENI, Prefixes: prefixes, Static: true}.Most()
	p := podENIs{prefixes: prefixes}
	slots := s.ipsPerENI - 1 // the first is the ENI's own address
	// A node that may run pods on the host network only gets an address too: without one its CNI never becomes ready.
	for left := max(need.Prefixes+need.Addresses, 1); left > 0 && slots > 0; left -= slots {
		p.counts = append(p.counts, min(left, slots))
	}
	return p
}

// interfaces of a launch template. EC2 wants the subnet of each there, and then none in the fleet's overrides.
func (p podENIs) interfaces(nodeSubnet, podSubnet string, podGroups []string) []*amifamily.ResolvedNetworkInterface {
	interfaces := []*amifamily.ResolvedNetworkInterface{{InterfaceType: ec2nodeclass.InterfaceTypeInterface, SubnetID: nodeSubnet}}
	// Upstream gives an interface without groups those of the node class, which are the primary ENI's.
	groups := lo.Map(podGroups, func(id string, _ int) ec2nodeclass.SecurityGroup { return ec2nodeclass.SecurityGroup{ID: id} })
	for i, n := range p.counts {
		count := lo.ToPtr(int32(n)) //nolint:gosec // at most the slots of an ENI
		pod := &amifamily.ResolvedNetworkInterface{
			DeviceIndex: int32(i + 1), InterfaceType: ec2nodeclass.InterfaceTypeInterface, SubnetID: podSubnet, SecondaryENISecurityGroups: groups, //nolint:gosec // at most 15 ENIs
		}
		if p.prefixes {
			pod.SecondaryIPPrefixCount = count
		} else {
			pod.SecondaryIPCount = count
		}
		interfaces = append(interfaces, pod)
	}
	return interfaces
}
