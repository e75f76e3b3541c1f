// SPDX-License-Identifier: Apache-2.0

package securitygroups

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/awslabs/operatorpkg/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// ReasonApplying is the condition's while ENIs wait for their turn.
const ReasonApplying = "Applying"

// tell what a round found: in the condition, and what a person has to mend in events on the PodNetwork and the ENIConfig.
func (c *Controller) tell(ctx context.Context, network *v1alpha1.PodNetwork, round outcome) error {
	condition := status.Condition{Type: v1alpha1.ConditionSecurityGroupsApplied, Status: metav1.ConditionTrue, Reason: v1alpha1.ConditionSecurityGroupsApplied}
	if round.left > 0 {
		condition.Status, condition.Reason = metav1.ConditionFalse, ReasonApplying
		condition.Message = fmt.Sprintf("%d pod ENIs wait for the security groups of their ENIConfig", round.left)
	}
	var messages []string
	for _, key := range slices.Sorted(maps.Keys(round.failures)) {
		failed := round.failures[key]
		if len(messages) == 0 {
			condition.Status, condition.Reason = metav1.ConditionFalse, string(failed.reason)
		}
		messages = append(messages, fmt.Sprintf("%s (%d ENIs)", explain(failed), failed.count))
		for _, object := range []client.Object{network, &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: failed.config}}} {
			c.warn(ctx, object, failed)
		}
	}
	if len(messages) > 0 {
		condition.Message = strings.Join(messages, "; ")
	}
	return c.write(ctx, network, &condition)
}

// explain says what to do. It does not count: an event is one as long as its text is the same.
func explain(f *failure) string {
	const keep = "pod ENIs of running nodes keep their security groups"
	switch f.reason {
	case eni.GroupMissing:
		return fmt.Sprintf("ENIConfig %s: %s until spec.securityGroups names existing groups of the nodes' VPC, at most as many as the account's quota: %s", f.config, keep, f.message)
	case eni.Unauthorized:
		return fmt.Sprintf("ENIConfig %s: %s until the controller's IAM role allows ec2:ModifyNetworkInterfaceAttribute on them and on the groups: %s", f.config, keep, f.message)
	default:
		return fmt.Sprintf("ENIConfig %s: %s: %s", f.config, keep, f.message)
	}
}

func (c *Controller) warn(ctx context.Context, object client.Object, f *failure) {
	if object.GetUID() == "" { // events need it to be found by `kubectl describe`
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return // deleted meanwhile; the PodNetwork has the event too
		}
	}
	c.Recorder.Publish(events.Event{
		InvolvedObject: object, Type: corev1.EventTypeWarning, Reason: string(f.reason), Message: explain(f),
		DedupeValues: []string{fmt.Sprintf("%T", object), object.GetName(), string(f.reason), f.message}, // both may be named default
	})
}

// write the condition, nil for none. It does not bear on Ready, which is about new nodes: the podnetwork controller's.
func (c *Controller) write(ctx context.Context, network *v1alpha1.PodNetwork, condition *status.Condition) error {
	stored := network.DeepCopy()
	network.PutCondition(v1alpha1.ConditionSecurityGroupsApplied, condition, metav1.NewTime(c.Clock.Now()))
	if equality.Semantic.DeepEqual(stored.Status, network.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})
	if err := c.Client.Status().Patch(ctx, network, patch); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("writing the status of PodNetwork %s, %w", network.Name, err))
	}
	return nil
}
