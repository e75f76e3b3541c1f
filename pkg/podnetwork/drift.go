// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Reasons why a node is to be replaced.
const (
	// DriftPodNetwork: the node was launched with other settings than its pod network now has, or before it had one.
	DriftPodNetwork cloudprovider.DriftReason = "PodNetworkDrift"
	// DriftPodSubnet: the pod network would launch the node with another ENIConfig, or its ENIConfig has another subnet.
	DriftPodSubnet cloudprovider.DriftReason = "PodSubnetDrift"
)

// Stamp returns the annotations that say what a node is launched with. The claim bears the labels that its node will have,
// its zone among them.
func Stamp(network *v1alpha1.PodNetwork, claim *karpv1.NodeClaim) map[string]string {
	stamp := map[string]string{
		v1alpha1.AnnotationPodNetworkHash:        network.Hash(),
		v1alpha1.AnnotationPodNetworkHashVersion: v1alpha1.PodNetworkHashVersion,
	}
	name := ENIConfigOf(network, claim)
	for _, zone := range network.Status.Zones {
		if zone.Zone == claim.Labels[corev1.LabelTopologyZone] && zone.ENIConfig == name {
			stamp[v1alpha1.AnnotationLaunchedENIConfig], stamp[v1alpha1.AnnotationLaunchedPodSubnet] = name, zone.Subnet
		}
	}
	return stamp
}

// Outdated compares what a node was launched with to what its node class's pod network, nil for none, would launch now. It
// returns "" when both are the same.
func Outdated(network *v1alpha1.PodNetwork, claim *karpv1.NodeClaim) cloudprovider.DriftReason {
	launched := claim.Annotations[v1alpha1.AnnotationPodNetworkHash]
	if network == nil {
		return lo.Ternary(launched == "", "", DriftPodNetwork)
	}
	if claim.Labels[v1alpha1.LabelPodNetwork] != network.Name || launched != network.Hash() {
		return DriftPodNetwork
	}
	subnet, inZone := claim.Annotations[v1alpha1.AnnotationLaunchedPodSubnet], false
	for _, zone := range network.Status.Zones {
		if zone.Zone != claim.Labels[corev1.LabelTopologyZone] {
			continue
		}
		inZone = true
		if zone.ENIConfig == claim.Annotations[v1alpha1.AnnotationLaunchedENIConfig] && zone.Subnet == subnet {
			return ""
		}
	}
	// In a zone without any ENIConfig there is nothing better to launch. That is a problem of the network, and not the node's.
	return lo.Ternary(subnet != "" && inZone, DriftPodSubnet, "")
}

// Settled tells that the controller has found the network as it now is ready to launch nodes. Until then no node is replaced
// because of it: an edit that cannot work must not cost a fleet.
func Settled(network *v1alpha1.PodNetwork) bool {
	ready := network.StatusConditions().Get(status.ConditionReady)
	return ready.IsTrue() && ready.ObservedGeneration == network.Generation
}
