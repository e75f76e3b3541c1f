// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/pendingpods"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
	"github.com/dovetail-dev/dovetail/test/scenario"
)

// TestPodsGoWherePodSubnetsHaveRoom is one story: zone a's pod subnet is full, zone b's has addresses but no /28, zone c's is free.
func TestPodsGoWherePodSubnetsHaveRoom(t *testing.T) {
	const full, fragmented, free = "us-east-1a", "us-east-1b", "us-east-1c"
	withoutWorkload(t)
	subnets, err := sandbox.CreatePodSubnets(t.Context(), "short", map[string]string{
		full: "100.64.96.0/24", fragmented: "100.64.97.0/24", free: "100.64.100.0/22",
	})
	undo(t, func(ctx context.Context) error { return sandbox.DeletePodSubnets(ctx, subnets) })
	require.NoError(t, err)
	undo(t, func(ctx context.Context) error { return sandbox.UseExamplePodSubnets(ctx, podNetwork) })
	empty, err := sandbox.FillSubnet(t.Context(), subnets.ByZone[full], "fill", "0")
	require.NoError(t, err)
	undo(t, empty)
	unscatter, err := sandbox.FillSubnet(t.Context(), subnets.ByZone[fragmented], "fragment", "100")
	require.NoError(t, err)
	undo(t, unscatter)

	deploy := func(ctx context.Context, name string, replicas int, zone string) (scenario.Workload, error) {
		workload, err := sandbox.Deploy(ctx, name, replicas, zone, false)
		if err == nil {
			undo(t, func(ctx context.Context) error { return sandbox.EndDeployment(ctx, workload) })
		}
		return workload, err
	}
	var anywhere, pinned, scattered scenario.Workload
	if !step(t, "the pod network tells the three apart", func(ctx context.Context, t *testing.T) {
		require.NoError(t, sandbox.UsePodSubnets(ctx, podNetwork, subnets))
		require.NoError(t, sandbox.WaitPodSubnets(ctx, podNetwork, subnets, func(zone v1alpha1.ZoneStatus) bool {
			switch zone.Zone {
			case full:
				return zone.FreeAddresses == 0
			case fragmented:
				return zone.FreePrefixes == 0 && zone.FreeAddresses == 100 && zone.Fragmentation == 100
			}
			return zone.FreePrefixes > 0
		}))
	}) {
		t.FailNow()
	}
	step(t, "300 pods that may go anywhere all run", func(ctx context.Context, t *testing.T) {
		start := time.Now()
		var err error
		anywhere, err = deploy(ctx, "anywhere", 300, "")
		require.NoError(t, err)
		require.NoError(t, sandbox.WaitRunning(ctx, anywhere, nil))
		perSubnet, err := sandbox.PodsPerSubnet(ctx, anywhere)
		require.NoError(t, err)
		for _, subnet := range perSubnet {
			if subnet.ID == subnets.ByZone[full] {
				require.Zero(t, subnet.Pods)
			}
			if subnet.Pods > 0 {
				t.Logf("%d pods in %s %s", subnet.Pods, subnet.Zone, subnet.CIDR)
			}
		}
		t.Logf("all run after %s", time.Since(start))
	})
	step(t, "pods that must go to the fragmented zone run there, on nodes of single addresses and fewer pods", func(ctx context.Context, t *testing.T) {
		start := time.Now()
		var err error
		scattered, err = deploy(ctx, "scattered", 30, fragmented)
		require.NoError(t, err)
		require.NoError(t, sandbox.WaitRunning(ctx, scattered, nil))
		t.Logf("all run after %s", time.Since(start))
		perSubnet, err := sandbox.PodsPerSubnet(ctx, scattered)
		require.NoError(t, err)
		for _, subnet := range perSubnet {
			require.Equal(t, subnet.ID == subnets.ByZone[fragmented], subnet.Pods > 0, subnet.ID)
		}
		requireSingleAddresses(ctx, t, fragmented)
	})
	step(t, "pods that must go to the full zone wait, and are told which subnet is full", func(ctx context.Context, t *testing.T) {
		var err error
		pinned, err = deploy(ctx, "pinned", 10, full)
		require.NoError(t, err)
		end, err := sandbox.Lonely(ctx, "picky", map[string]string{corev1.LabelTopologyZone: fragmented, v1alpha1.LabelPrefixDelegation: string(v1alpha1.Enabled)})
		undo(t, end)
		require.NoError(t, err)
		events, err := sandbox.WaitPodEvents(ctx, pinned, pendingpods.ReasonNoPodAddresses)
		require.NoError(t, err)
		require.Contains(t, strings.Join(events, "\n"), subnets.ByZone[full])
		t.Logf("%q", events)
		unplaced, err := sandbox.Unplaced(ctx, pinned)
		require.NoError(t, err)
		require.Equal(t, pinned.Replicas, unplaced)

		waiting, err := sandbox.PodOf(ctx, pinned)
		require.NoError(t, err)
		why, err := sandbox.WaitWhy(ctx, waiting, diagnosis.CauseNoPodAddresses, subnets.ByZone[full], "0 /28 blocks free")
		require.NoError(t, err)
		t.Log(why.Printed)
		why, err = sandbox.WaitWhy(ctx, "picky", diagnosis.CauseNoPodAddresses, subnets.ByZone[fragmented], "0 /28 blocks free", "single addresses free")
		require.NoError(t, err)
		t.Log(why.Printed)
	})
	step(t, "they are placed when room returns", func(ctx context.Context, t *testing.T) {
		start := time.Now()
		require.NoError(t, empty(ctx))
		require.NoError(t, sandbox.WaitRunning(ctx, pinned, nil))
		t.Logf("after %s", time.Since(start))
	})
}

// requireSingleAddresses: the nodes of a zone have no /28, and everybody says of them how many pods that allows.
func requireSingleAddresses(ctx context.Context, t *testing.T, zone string) {
	t.Helper()
	nodes, err := sandbox.Nodes(ctx)
	require.NoError(t, err)
	found := 0
	for _, node := range nodes {
		if node.Zone != zone {
			continue
		}
		found++
		calculated, err := sandbox.CalculatedMaxPods(ctx, node.Type, false)
		require.NoError(t, err)
		require.Equal(t, calculated, node.MaxPods, node.Type)
		require.Equal(t, calculated, node.UserDataMaxPods, node.Type)
		require.Equal(t, strconv.Itoa(calculated), node.Labels[v1alpha1.LabelMaxPods], node.Type)
		require.Equal(t, "Disabled", node.Labels[v1alpha1.LabelPrefixDelegation])
		require.Zero(t, node.Prefixes())
		t.Logf("a %s takes %d pods", node.Type, calculated)
	}
	require.NotZero(t, found)
}
