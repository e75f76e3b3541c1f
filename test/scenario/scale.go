// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ScaleToZero scales the workload down and waits until Karpenter has removed what it launched for it. Where the context
// ends first, it returns what was left over, without an error.
func (s *Sandbox) ScaleToZero(ctx context.Context, workload Workload, report func(Leaks)) (Leaks, time.Duration, error) {
	start := time.Now()
	deployment := &appsv1.Deployment{}
	deployment.Namespace, deployment.Name = workload.Key.Namespace, workload.Key.Name
	if err := s.Kube.Patch(ctx, deployment, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":0}}`))); err != nil {
		return Leaks{}, 0, fmt.Errorf("scaling %s to zero: %w", workload.Key, err)
	}
	left, err := s.WaitNoLeaks(ctx, report)
	return left, time.Since(start), err
}

// WaitNoLeaks waits until nothing exists that did not when the sandbox was up.
func (s *Sandbox) WaitNoLeaks(ctx context.Context, report func(Leaks)) (left Leaks, err error) {
	read := false
	err = until(ctx, "nothing is left over", func(ctx context.Context) error {
		now, err := s.inventory(ctx)
		if err != nil {
			return err
		}
		left, read = now.since(s.before), true
		if report != nil {
			report(left)
		}
		if !left.None() {
			return fmt.Errorf("left over: %s", left)
		}
		return nil
	})
	if read && ctx.Err() != nil {
		return left, nil //nolint:nilerr // what is left over says it
	}
	return left, err
}
