// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"

	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// WaitOutdated waits until the network says that at least one of its nodes is to be replaced.
func (s *Sandbox) WaitOutdated(ctx context.Context, network string) error {
	_, err := s.waitCondition(ctx, network, v1alpha1.ConditionMigrationComplete, metav1.ConditionFalse, "")
	return err
}

// WaitMigrated waits until the network's nodes are all current and says each count of outdated nodes on the way once.
func (s *Sandbox) WaitMigrated(ctx context.Context, network string) (outdated []int32, err error) {
	err = until(ctx, "the nodes of PodNetwork "+network+" are replaced", func(ctx context.Context) error {
		object := &v1alpha1.PodNetwork{}
		if err := s.Kube.Get(ctx, client.ObjectKey{Name: network}, object); err != nil {
			return err
		}
		now := object.Status.Nodes.Outdated
		if len(outdated) == 0 || outdated[len(outdated)-1] != now {
			outdated = append(outdated, now)
		}
		if !object.StatusConditions().Get(v1alpha1.ConditionMigrationComplete).IsTrue() {
			return fmt.Errorf("status.nodes is %+v", object.Status.Nodes)
		}
		return nil
	})
	return outdated, err
}

// WaitNotReady waits until the network says that its present settings cannot launch nodes.
func (s *Sandbox) WaitNotReady(ctx context.Context, network string) (string, error) {
	return s.waitCondition(ctx, network, "Ready", metav1.ConditionFalse, "")
}

// Drifted lists the NodeClaims that Karpenter is to replace.
func (s *Sandbox) Drifted(ctx context.Context) (found []string, err error) {
	claims := &karpenter.NodeClaimList{}
	if err := s.Kube.List(ctx, claims); err != nil {
		return nil, fmt.Errorf("listing NodeClaims: %w", err)
	}
	for i := range claims.Items {
		if claims.Items[i].StatusConditions().Get(karpenter.ConditionTypeDrifted).IsTrue() {
			found = append(found, claims.Items[i].Name)
		}
	}
	return found, nil
}

// WaitGone waits until no Node is of one of these instances.
func (s *Sandbox) WaitGone(ctx context.Context, instances []string) error {
	return until(ctx, "replaced nodes are gone", func(ctx context.Context) error {
		there, err := s.Instances(ctx)
		if err != nil {
			return err
		}
		if left := lo.Intersect(instances, there); len(left) > 0 {
			return fmt.Errorf("instances %v have nodes still", left)
		}
		return nil
	})
}
