// SPDX-License-Identifier: Apache-2.0

package launch

import (
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"
)

// wanted is what a NodeClaim asks of its node.
type wanted struct {
	requirements scheduling.Requirements
	requests     corev1.ResourceList
}

func wantedBy(claim *karpv1.NodeClaim) wanted {
	return wanted{
		requirements: scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...),
		requests:     claim.Spec.Resources.Requests,
	}
}

// offerings of the instance type that are available and that the claim may use: none where it may not use the type. A launch asks for
// each type that there is, so what is cheap to tell comes first.
func (w wanted) offerings(it *cloudprovider.InstanceType) cloudprovider.Offerings {
	if !w.admits(it.Requirements) {
		return nil
	}
	var usable cloudprovider.Offerings
	for _, o := range it.Offerings {
		if o.Available && w.admits(o.Requirements) {
			usable = append(usable, o)
		}
	}
	if len(usable) == 0 || !resources.Fits(w.requests, it.Allocatable()) {
		return nil
	}
	return usable
}

// admits is core's IsCompatible with well-known labels that may be undefined. Core collects all that differs to tell of it, which costs
// a launch milliseconds: of more than a thousand instance types with a dozen offerings each a claim admits some.
func (w wanted) admits(others scheduling.Requirements) bool {
	for key, requirement := range w.requirements {
		if other, ok := others[key]; ok && !requirement.HasIntersection(other) && (!absent(requirement) || !absent(other)) {
			return false
		}
	}
	for key, other := range others {
		if !karpv1.WellKnownLabels.Has(key) && !w.requirements.Has(key) && !absent(other) {
			return false
		}
	}
	return true
}

// absent tells of a requirement that a node without the label meets.
func absent(r *scheduling.Requirement) bool {
	operator := r.Operator()
	return operator == corev1.NodeSelectorOpNotIn || operator == corev1.NodeSelectorOpDoesNotExist
}

// withOfferings copies the instance type: others have the one that was listed, and upstream narrows the offerings of those that it
// launches.
func withOfferings(it *cloudprovider.InstanceType, offerings cloudprovider.Offerings) *cloudprovider.InstanceType {
	return &cloudprovider.InstanceType{
		Name: it.Name, Requirements: it.Requirements, Offerings: offerings, Capacity: it.Capacity, Overhead: it.Overhead, DynamicResources: it.DynamicResources,
	}
}
