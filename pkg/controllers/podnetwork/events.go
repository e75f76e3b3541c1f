// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/karpenter/pkg/events"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/vpccni"
)

// ReasonNoPodNetworkZone is the event on a NodePool that allows no zone in which its pod network can take nodes.
const ReasonNoPodNetworkZone = "NoPodNetworkZone"

func joinMessages(problems []podnetwork.Problem) string {
	return strings.Join(lo.Map(problems, func(p podnetwork.Problem, _ int) string { return p.Message }), "; ")
}

// publish tells of each problem on the PodNetwork, and on the ENIConfig where that is at fault.
func (c *Controller) publish(network *v1alpha1.PodNetwork, view podnetwork.View, resolution podnetwork.Resolution) {
	for _, problem := range resolution.Problems {
		if problem.Reason == podnetwork.ReasonProvisioning {
			continue
		}
		c.Recorder.Publish(warning(network, problem.Reason, problem.Message))
		if config, found := lo.Find(view.ENIConfigs, func(e eniconfig.ENIConfig) bool { return problem.ENIConfig != "" && e.Name == problem.ENIConfig }); found {
			c.Recorder.Publish(warning(&config, problem.Reason, problem.Message))
		}
	}
}

// publishSettings tells of aws-node's settings that differ and are no problem that keeps nodes from being launched.
func (c *Controller) publishSettings(network *v1alpha1.PodNetwork, found agentFindings) {
	if found.settings == nil || len(found.settings.Differences) == len(found.settings.Fatal()) {
		return
	}
	c.Recorder.Publish(warning(network, ReasonVPCCNISettingsDiffer, vpccni.Describe(found.settings.Differences)))
}

// settling is how long what was applied together with a PodNetwork may take to be there: ENIConfigs, and node classes with their
// subnets.
const settling = 15 * time.Second

// settled tells whether the network has existed for so long.
func (c *Controller) settled(network *v1alpha1.PodNetwork) bool {
	return c.Clock.Since(network.CreationTimestamp.Time) >= settling
}

// provisioning tells whether ENIConfigs are being made for the network: until the condition Provisioned says otherwise of the present
// spec, and a moment longer, for what it tells of reaches this controller by another watch.
func (c *Controller) provisioning(network *v1alpha1.PodNetwork) bool {
	if network.Spec.Provision == nil {
		return false
	}
	told, ok := lo.Find(network.Status.Conditions, func(c status.Condition) bool { return c.Type == v1alpha1.ConditionProvisioned })
	switch {
	case !ok || told.Status == metav1.ConditionUnknown || told.ObservedGeneration < network.Generation:
		return true
	case told.Status == metav1.ConditionTrue:
		return c.Clock.Since(told.LastTransitionTime.Time) < settling
	}
	return told.Reason == podnetwork.ReasonProvisioning
}

// warnNodePools tells a NodePool's owner why it launches nothing: Karpenter itself says only that no instance type fits.
func (c *Controller) warnNodePools(ctx context.Context, network *v1alpha1.PodNetwork, view podnetwork.View) error {
	pools, err := c.nodePools(ctx, view.NodeClasses)
	if err != nil {
		return err
	}
	agent := network.StatusConditions().Get(v1alpha1.ConditionAgentReady)
	usable := lo.Uniq(lo.Map(network.Status.Zones, func(z v1alpha1.ZoneStatus, _ int) string { return z.Zone }))
	slices.Sort(usable)
	for i := range pools {
		pool := &pools[i]
		if agent.IsFalse() {
			c.Recorder.Publish(warning(pool, agent.Reason, fmt.Sprintf("pod network %s launches no nodes until its condition %s is true: %s",
				network.Name, v1alpha1.ConditionAgentReady, agent.Message)))
		}
		zones := scheduling.NewNodeSelectorRequirementsWithMinValues(pool.Spec.Template.Spec.Requirements...).Get(corev1.LabelTopologyZone)
		if lo.SomeBy(usable, zones.Has) || !c.settled(network) || view.Provisioning {
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
		DedupeValues:   []string{fmt.Sprintf("%T", object), object.GetName(), reason, message}, // a NodePool and a PodNetwork may share a name
	}
}
