// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"fmt"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Reasons why a launch cannot bring the pod ENIs along, so that its node allocates dynamically.
const (
	ReasonPublicAddress       = "PublicAddressRequested"
	ReasonPublicNodeSubnet    = "NodeSubnetGivesPublicAddresses"
	ReasonNodeClassInterfaces = "NodeClassDefinesInterfaces"
	ReasonNodeClassPrefixes   = "NodeClassSetsIPPrefixCount"
)

// Obstacle to static allocation, with what to change.
type Obstacle struct{ Reason, Message string }

// StaticObstacle returns what stands in the way of static allocation for nodes of the node class in a node subnet, nil when
// nothing does. publicAddresses is the subnet's MapPublicIpOnLaunch. EC2 gives no public address to an instance that is
// launched with two interfaces, whoever asks for it. An ENI takes prefixes or single addresses, and upstream puts
// ipPrefixCount on each ENI that has no prefixes of its own.
func StaticObstacle(network *v1alpha1.PodNetwork, nodeClass *ec2nodeclass.EC2NodeClass, subnet string, publicAddresses bool) *Obstacle {
	public := nodeClass.Spec.AssociatePublicIPAddress
	switch {
	case nodeClass.Spec.IPPrefixCount != nil && network.Spec.Addressing.PrefixDelegation == v1alpha1.Disabled:
		return &Obstacle{ReasonNodeClassPrefixes, fmt.Sprintf(
			"EC2NodeClass %s has ipPrefixCount, which EC2 does not take together with single addresses: remove it; pods never use the primary ENI", nodeClass.Name)}
	case len(nodeClass.Spec.NetworkInterfaces) > 0:
		return &Obstacle{ReasonNodeClassInterfaces, fmt.Sprintf(
			"EC2NodeClass %s has networkInterfaces of its own: remove them, or use allocation Dynamic", nodeClass.Name)}
	case public != nil && *public:
		return &Obstacle{ReasonPublicAddress, fmt.Sprintf(
			"EC2NodeClass %s has associatePublicIPAddress: true, and EC2 gives no public address to an instance launched with two interfaces: remove it, or use allocation Dynamic", nodeClass.Name)}
	case public == nil && publicAddresses:
		return &Obstacle{ReasonPublicNodeSubnet, fmt.Sprintf(
			"node subnet %s gives public addresses (MapPublicIpOnLaunch), and EC2 gives none to an instance launched with two interfaces: "+
				"set associatePublicIPAddress: false on EC2NodeClass %s if its nodes need none, or use allocation Dynamic", subnet, nodeClass.Name)}
	default:
		return nil
	}
}

// StaticObstacles of all node subnets of a network of static allocation, one for each reason and what it is about. all tells
// whether no node subnet is left where it is possible.
func StaticObstacles(network *v1alpha1.PodNetwork, view View) (found []Obstacle, all bool) {
	if network.Spec.Addressing.Allocation != v1alpha1.AllocationStatic {
		return nil, false
	}
	all = true
	for i := range view.NodeClasses {
		nodeClass := &view.NodeClasses[i]
		for _, s := range nodeClass.Status.Subnets {
			if obstacle := StaticObstacle(network, nodeClass, s.ID, view.Subnets[s.ID].PublicAddresses); obstacle != nil {
				found = append(found, *obstacle)
			} else {
				all = false
			}
		}
	}
	return lo.Uniq(found), all && len(found) > 0
}
