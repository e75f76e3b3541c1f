// SPDX-License-Identifier: Apache-2.0

package launch

import "github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"

// Allocations that nodes of the network may have. Where Static is asked for, a launch that cannot bring the pod ENIs along makes a
// node that allocates dynamically, unless the NodeClaim requires otherwise. The node's own is in its label, and its agent goes by
// that, whatever the network asks for later.
func Allocations(network *v1alpha1.PodNetwork) []string {
	if network.Spec.Addressing.Allocation == v1alpha1.AllocationStatic {
		return []string{string(v1alpha1.AllocationStatic), string(v1alpha1.AllocationDynamic)}
	}
	return []string{string(v1alpha1.AllocationDynamic)}
}
