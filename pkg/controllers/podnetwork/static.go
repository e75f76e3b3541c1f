// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"strings"

	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// setStatic says where static allocation is not possible, before a launch has to. Nodes come all the same, so it does not bear on
// Ready.
func (c *Controller) setStatic(network *v1alpha1.PodNetwork, view podnetwork.View) {
	conditions := network.StatusConditions()
	if network.Spec.Addressing.Allocation != v1alpha1.AllocationStatic {
		_ = conditions.Clear(v1alpha1.ConditionStaticAllocationAvailable) // an error only for those that Ready depends on
		return
	}
	obstacles, all := podnetwork.StaticObstacles(network, view)
	message := strings.Join(lo.Map(obstacles, func(o podnetwork.Obstacle, _ int) string { return o.Message }), "; ")
	switch {
	case all:
		conditions.SetFalse(v1alpha1.ConditionStaticAllocationAvailable, obstacles[0].Reason, message)
		c.Recorder.Publish(warning(network, obstacles[0].Reason, message))
	case len(obstacles) > 0:
		conditions.SetTrueWithReason(v1alpha1.ConditionStaticAllocationAvailable, "NotEverywhere", message)
	default:
		conditions.SetTrue(v1alpha1.ConditionStaticAllocationAvailable)
	}
}
