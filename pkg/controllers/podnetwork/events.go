// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"context"
	"fmt"
	"slices"
	"strings"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/events"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// ReasonNoPodNetworkZone is the event on a NodePool that allows no zone in which its pod network can take nodes.
const ReasonNoPodNetworkZone = "NoPodNetworkZone"

func joinMessages(problems []podnetwork.Problem) string {
	return strings.Join(lo.Map(problems, func(p podnetwork.Problem, _ int) string { return p.Message }), "; ")
}

// publish tells of each problem on the PodNetwork, and on the ENIConfig where that is at fault.
func (c *Controller) publish(network *v1alpha1.PodNetwork, view podnetwork.View, resolution podnetwork.Resolution) {
	for _, problem := range resolution.Problems {
		c.Recorder.Publish(warning(network, problem.Reason, problem.Message))
		if config, found := lo.Find(view.ENIConfigs, func(e eniconfig.ENIConfig) bool { return problem.ENIConfig != "" && e.Name == problem.ENIConfig }); found {
			c.Recorder.Publish(warning(&config, problem.Reason, problem.Message))
		}
	}
}

// warnNodePools tells a NodePool's owner why it launches nothing: Karpenter itself says only that no instance type fits.
func (c *Controller) warnNodePools(ctx context.Context, network *v1alpha1.PodNetwork, nodeClasses []ec2nodeclass.EC2NodeClass) error {
	pools := &karpv1.NodePoolList{}
	if err := c.Client.List(ctx, pools); err != nil {
		return fmt.Errorf("listing NodePools, %w", err)
	}
	usable := lo.Uniq(lo.Map(network.Status.Zones, func(z v1alpha1.ZoneStatus, _ int) string { return z.Zone }))
	slices.Sort(usable)
	for i := range pools.Items {
		pool := &pools.Items[i]
		ref := pool.Spec.Template.Spec.NodeClassRef
		if ref == nil || !lo.ContainsBy(nodeClasses, func(n ec2nodeclass.EC2NodeClass) bool { return n.Name == ref.Name }) {
			continue
		}
		zones := scheduling.NewNodeSelectorRequirementsWithMinValues(pool.Spec.Template.Spec.Requirements...).Get(corev1.LabelTopologyZone)
		if lo.SomeBy(usable, zones.Has) {
			continue
		}
		c.Recorder.Publish(warning(pool, ReasonNoPodNetworkZone, fmt.Sprintf(
			"pod network %s has no usable ENIConfig in a zone that this NodePool allows (%s); it has them in: %s; see the conditions of the PodNetwork",
			network.Name, zones, lo.CoalesceOrEmpty(strings.Join(usable, ", "), "no zone"))))
	}
	return nil
}

func warning(object client.Object, reason, message string) events.Event {
	return events.Event{
		InvolvedObject: object,
		Type:           corev1.EventTypeWarning,
		Reason:         reason,
		Message:        message,
		DedupeValues:   []string{object.GetName(), reason, message},
	}
}
