// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/test/scenario"
)

// TestAChangedPodNetworkReplacesItsNodesWithinTheBudgets is one story. The examples' NodePool lets a tenth of the nodes drift at once.
func TestAChangedPodNetworkReplacesItsNodesWithinTheBudgets(t *testing.T) {
	const nodes, available = 20, 18
	anything := func(v1alpha1.ZoneStatus) bool { return true }
	withoutWorkload(t)
	before, err := sandbox.CreatePodSubnets(t.Context(), "before", map[string]string{
		"us-east-1a": "100.64.112.0/23", "us-east-1b": "100.64.114.0/23", "us-east-1c": "100.64.116.0/23",
	})
	undo(t, func(ctx context.Context) error { return sandbox.DeletePodSubnets(ctx, before) })
	require.NoError(t, err)
	after, err := sandbox.CreatePodSubnets(t.Context(), "after", map[string]string{
		"us-east-1a": "100.64.118.0/23", "us-east-1b": "100.64.120.0/23", "us-east-1c": "100.64.122.0/23",
	})
	undo(t, func(ctx context.Context) error { return sandbox.DeletePodSubnets(ctx, after) })
	require.NoError(t, err)
	undo(t, func(ctx context.Context) error { return sandbox.UseExamplePodSubnets(ctx, podNetwork) })

	var workload scenario.Workload
	instances := func(ctx context.Context, t *testing.T) (found []string) {
		listed, err := sandbox.Nodes(ctx)
		require.NoError(t, err)
		for _, node := range listed {
			found = append(found, node.InstanceID) // names are of addresses, and come again
		}
		return found
	}
	parent := t
	var first []string
	if !step(t, "a node for each pod", func(ctx context.Context, t *testing.T) {
		require.NoError(t, sandbox.UsePodSubnets(ctx, podNetwork, before))
		require.NoError(t, sandbox.WaitPodSubnets(ctx, podNetwork, before, anything))
		workload, err = sandbox.Deploy(ctx, "apart", nodes, "", true)
		require.NoError(t, err)
		undo(parent, func(ctx context.Context) error { return sandbox.EndDeployment(ctx, workload) })
		require.NoError(t, sandbox.WaitRunning(ctx, workload, nil))
		first = instances(ctx, t)
		require.Len(t, first, nodes)
	}) {
		t.FailNow()
	}
	budget, err := sandbox.Budget(t.Context(), workload, available)
	require.NoError(t, err)
	undo(t, func(ctx context.Context) error { return sandbox.Kube.Delete(ctx, budget) })
	readiness, err := sandbox.WatchReadiness(t.Context(), workload)
	require.NoError(t, err)

	step(t, "an edit that selects no ENIConfig replaces no node", func(ctx context.Context, t *testing.T) {
		require.NoError(t, sandbox.SelectENIConfigs(ctx, podNetwork, "nothing"))
		why, err := sandbox.WaitNotReady(ctx, podNetwork)
		require.NoError(t, err)
		t.Log(why)
		drifted, err := sandbox.Drifted(ctx)
		require.NoError(t, err)
		require.Empty(t, drifted)
		require.ElementsMatch(t, first, instances(ctx, t))
	})
	step(t, "another set of ENIConfigs replaces all", func(ctx context.Context, t *testing.T) {
		start := time.Now()
		require.NoError(t, sandbox.UsePodSubnets(ctx, podNetwork, after))
		require.NoError(t, sandbox.WaitOutdated(ctx, podNetwork))
		outdated, err := sandbox.WaitMigrated(ctx, podNetwork)
		t.Logf("outdated nodes: %v, after %s", outdated, time.Since(start))
		require.NoError(t, err)
		require.IsDecreasing(t, outdated)
		require.NoError(t, sandbox.WaitRunning(ctx, workload, nil))
		require.NoError(t, sandbox.WaitGone(ctx, first))
		perSubnet, err := sandbox.PodsPerSubnet(ctx, workload)
		require.NoError(t, err)
		moved := 0
		for _, subnet := range perSubnet {
			if after.ByZone[subnet.Zone] == subnet.ID {
				moved += subnet.Pods
			}
		}
		require.Equal(t, nodes, moved)
	})
	step(t, "never were fewer pods ready than the budget allows", func(_ context.Context, t *testing.T) {
		fewest, err := readiness.Fewest()
		require.NoError(t, err)
		t.Logf("%d of %d at the least", fewest, nodes)
		require.GreaterOrEqual(t, fewest, available)
		require.Less(t, fewest, nodes, "the watch saw no pod move")
	})
}
