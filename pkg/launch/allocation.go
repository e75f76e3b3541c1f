// SPDX-License-Identifier: Apache-2.0

package launch

import "github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"

// Allocation that a launch on the network makes: the one place that decides it. Nodes carry it as a label, and their agents go by
// that, whatever the network asks for later. No launch brings pod ENIs yet.
func Allocation(*v1alpha1.PodNetwork) v1alpha1.Allocation { return v1alpha1.AllocationDynamic }
