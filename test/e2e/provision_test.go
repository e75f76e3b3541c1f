// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/test/scenario"
)

func TestAVPCIsExtendedByOneObjectAndIsAsBeforeWhenItGoes(t *testing.T) {
	declared := netip.MustParsePrefix("100.65.0.0/16")
	parent := t
	withoutWorkload(t)
	undo(t, func(ctx context.Context) error { return sandbox.EndProvision(ctx, podNetwork) })
	if !step(t, "the CIDR, the pod subnets and the ENIConfigs are made", func(ctx context.Context, t *testing.T) {
		made, err := sandbox.Provision(ctx, podNetwork, v1alpha1.Provision{CIDRs: []string{declared.String()}, DeletionPolicy: v1alpha1.DeletionDelete})
		require.NoError(t, err)
		require.Len(t, made.Subnets, 3)
		for _, subnet := range made.Subnets {
			require.True(t, subnet.Made)
			t.Logf("%+v", subnet)
		}
	}) {
		t.FailNow()
	}
	var workload scenario.Workload
	step(t, "pods have addresses of the CIDR, and packets arrive", func(ctx context.Context, t *testing.T) {
		var err error
		_, err = sandbox.Apply(ctx, "ENIConfig", "PodNetwork")
		require.NoError(t, err)
		workload, err = sandbox.Workload(ctx)
		require.NoError(t, err)
		undo(parent, func(ctx context.Context) error { return sandbox.EndDeployment(ctx, workload) })
		require.NoError(t, sandbox.WaitRunning(ctx, workload, nil))
		perSubnet, err := sandbox.PodsPerSubnet(ctx, workload)
		require.NoError(t, err)
		pods := 0
		for _, subnet := range perSubnet {
			if declared.Overlaps(subnet.CIDR) {
				pods += subnet.Pods
			}
		}
		require.Equal(t, workload.Replicas, pods)
		nodes, err := sandbox.Nodes(ctx)
		require.NoError(t, err)
		require.NoError(t, sandbox.CheckPods(ctx, workload, nodes))
		probes, err := sandbox.Connectivity(ctx, workload, nodes)
		require.NoError(t, err)
		require.NoError(t, scenario.CheckMatrix(probes))
	})
	step(t, "all of it goes when no pod is left", func(ctx context.Context, t *testing.T) {
		require.NoError(t, sandbox.EndDeployment(ctx, workload))
		require.NoError(t, nothingIsLeft(ctx))
		require.NoError(t, sandbox.EndProvision(ctx, podNetwork))
		left, err := sandbox.SubnetsIn(ctx, declared)
		require.NoError(t, err)
		require.Empty(t, left)
	})
}
