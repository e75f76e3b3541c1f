// SPDX-License-Identifier: Apache-2.0

package provisioning

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

// announce writes down what is about to be asked of EC2, where nothing in the VPC could tell later who asked for it.
func (c *Controller) announce(ctx context.Context, network *v1alpha1.PodNetwork, in provision.Input, a provision.Action) error {
	stored := network.DeepCopy()
	recorded := lo.FromPtr(network.Status.Provision.DeepCopy())
	recorded.VPC = in.VPC.ID
	if a.Kind == provision.AssociateCIDR {
		cidr := a.CIDR.String()
		recorded.CIDRs = append(slices.DeleteFunc(recorded.CIDRs, func(r v1alpha1.ProvisionedCIDR) bool { return r.CIDR == cidr }), v1alpha1.ProvisionedCIDR{CIDR: cidr, Made: true})
	}
	network.Status.Provision = &recorded
	return c.patch(ctx, network, stored)
}

// made tells of what was done.
func (c *Controller) made(ctx context.Context, network *v1alpha1.PodNetwork, in provision.Input, a provision.Action, id string) {
	subnet := lo.FromPtr(in.Subnet(a)).ID
	message := map[provision.Kind]string{
		provision.AssociateCIDR:       fmt.Sprintf("associating CIDR %s with %s", a.CIDR, in.VPC.ID),
		provision.CreateSubnet:        fmt.Sprintf("created pod subnet %s (%s, %s)", id, a.CIDR, a.Zone),
		provision.CreateReservation:   fmt.Sprintf("reserved %s of pod subnet %s for prefixes", a.CIDR, subnet),
		provision.AssociateRouteTable: fmt.Sprintf("associated route table %s with pod subnet %s", a.RouteTable, subnet),
		provision.CreateENIConfig:     fmt.Sprintf("created ENIConfig %s for pod subnet %s", a.ENIConfig.Name, subnet),
		provision.UpdateENIConfig:     fmt.Sprintf("wrote ENIConfig %s for pod subnet %s", a.ENIConfig.Name, subnet),
	}[a.Kind]
	c.did(ctx, network, string(a.Kind), message)
}

func (c *Controller) did(ctx context.Context, network *v1alpha1.PodNetwork, action, message string) {
	actions.WithLabelValues(network.Name, action).Inc()
	log.FromContext(ctx).Info(message, "action", action)
	c.Recorder.Publish(events.Event{
		InvolvedObject: network, Type: corev1.EventTypeNormal, Reason: action, Message: message, DedupeValues: []string{network.Name, message},
	})
}

// tell what was found: in the status, and what a person has to mend in events.
func (c *Controller) tell(ctx context.Context, network *v1alpha1.PodNetwork, in provision.Input, plan provision.Plan) error {
	condition := status.Condition{Status: metav1.ConditionTrue, Reason: ReasonProvisioned, Message: strings.Join(plan.Notes, "; ")}
	switch {
	case len(plan.Refusals) > 0:
		condition = status.Condition{
			Status: metav1.ConditionFalse, Reason: plan.Refusals[0].Reason,
			Message: strings.Join(lo.Map(plan.Refusals, func(r provision.Refusal, _ int) string { return r.Message }), "; "),
		}
	case !plan.Complete():
		condition = status.Condition{Status: metav1.ConditionFalse, Reason: ReasonProvisioning, Message: strings.Join(slices.Concat(plan.Waiting, remaining(plan)), "; ")}
	}
	refused.DeletePartialMatch(map[string]string{"pod_network": network.Name})
	for _, r := range plan.Refusals {
		refused.WithLabelValues(network.Name, r.Reason).Set(1)
		c.Recorder.Publish(events.Event{
			InvolvedObject: network, Type: corev1.EventTypeWarning, Reason: r.Reason, Message: r.Message, DedupeValues: []string{network.Name, r.Reason, r.Message},
		})
	}
	stored := network.DeepCopy()
	network.PutCondition(v1alpha1.ConditionProvisioned, &condition, metav1.NewTime(c.Clock.Now()))
	if in.VPC.ID != "" {
		network.Status.Provision = found(network.Status.Provision, in, plan)
	}
	return c.patch(ctx, network, stored)
}

// remaining says how much is left to do.
func remaining(plan provision.Plan) []string {
	if len(plan.Actions) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d steps are left, next: %s", len(plan.Actions), plan.Actions[0].Kind)}
}

// found is what the VPC has of the declaration. What was ever made stays on record.
func found(recorded *v1alpha1.ProvisionStatus, in provision.Input, plan provision.Plan) *v1alpha1.ProvisionStatus {
	now := &v1alpha1.ProvisionStatus{VPC: in.VPC.ID}
	made := map[string]bool{}
	if recorded != nil {
		for _, r := range recorded.CIDRs {
			made[r.CIDR] = r.Made
		}
	}
	cidrs := lo.Map(in.CIDRs, func(c netip.Prefix, _ int) string { return c.String() })
	for _, cidr := range lo.Uniq(append(cidrs, lo.Keys(lo.PickBy(made, func(_ string, m bool) bool { return m }))...)) {
		entry := v1alpha1.ProvisionedCIDR{CIDR: cidr, Made: made[cidr]}
		for _, block := range in.VPC.Blocks {
			if parsed, err := netip.ParsePrefix(cidr); err == nil && provision.Contains(block.CIDR, parsed) {
				entry.State = block.State
			}
		}
		if entry.State != "" || entry.Made {
			now.CIDRs = append(now.CIDRs, entry)
		}
	}
	slices.SortFunc(now.CIDRs, func(a, b v1alpha1.ProvisionedCIDR) int { return strings.Compare(a.CIDR, b.CIDR) })
	for _, s := range plan.Subnets {
		entry := v1alpha1.ProvisionedSubnet{Zone: s.Zone, Subnet: s.ID, CIDR: s.CIDR.String(), RouteTable: s.RouteTable, ENIConfig: s.ENIConfig, Made: s.Own}
		for _, r := range s.Reservations {
			if !r.Explicit {
				entry.ReservedCIDRs = append(entry.ReservedCIDRs, r.CIDR.String())
			}
		}
		slices.Sort(entry.ReservedCIDRs)
		now.Subnets = append(now.Subnets, entry)
	}
	return now
}

// patch writes the status where it differs.
func (c *Controller) patch(ctx context.Context, network, stored *v1alpha1.PodNetwork) error {
	if equality.Semantic.DeepEqual(stored.Status, network.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})
	if err := c.Client.Status().Patch(ctx, network, patch); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("writing the status of PodNetwork %s, %w", network.Name, err))
	}
	return nil
}
