// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/test/scenario"
)

// podNetwork is the examples' PodNetwork.
const podNetwork = "default"

// step runs a subtest within a deadline. What was there when it failed goes to the log.
func step(t *testing.T, name string, run func(context.Context, *testing.T)) bool {
	t.Helper()
	return t.Run(name, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), stepDeadline)
		defer cancel()
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(sandbox.Diagnose(context.Background()))
			}
		})
		run(ctx, t)
	})
}

// TestPendingPodsBecomeNodesWithAddressesAndGoAgain is one story: each step stands on those before.
func TestPendingPodsBecomeNodesWithAddressesAndGoAgain(t *testing.T) {
	var workload scenario.Workload
	var nodes []scenario.Node
	parent := t

	if !step(t, "all pods of the examples run", func(ctx context.Context, t *testing.T) {
		_, err := sandbox.Apply(ctx)
		require.NoError(t, err)
		workload, err = sandbox.Workload(ctx)
		require.NoError(t, err)
		undo(parent, func(ctx context.Context) error { return sandbox.EndDeployment(ctx, workload) })
		require.NoError(t, sandbox.WaitRunning(ctx, workload, nil))
		nodes, err = sandbox.Nodes(ctx)
		require.NoError(t, err)
		for _, node := range nodes {
			t.Logf("%s %s %s: %d prefixes", node.Name, node.Type, node.Zone, node.Prefixes())
		}
	}) {
		t.FailNow()
	}

	step(t, "the pod network says it is ready", func(ctx context.Context, t *testing.T) {
		require.NoError(t, sandbox.WaitReady(ctx, podNetwork))
	})
	step(t, "nodes have pod ENIs in the subnet of their zone's ENIConfig and the computed max-pods", func(ctx context.Context, t *testing.T) {
		require.NoError(t, sandbox.CheckNodes(ctx, nodes))
	})
	step(t, "every pod has an address of its own on a pod ENI of its node", func(ctx context.Context, t *testing.T) {
		require.NoError(t, sandbox.CheckPods(ctx, workload, nodes))
	})
	step(t, "leases are those of the pods", func(ctx context.Context, t *testing.T) {
		for _, node := range nodes {
			require.NoError(t, sandbox.CheckLeases(ctx, node))
		}
	})
	step(t, "each node says that its pod network is ready, and its agent who has which address", func(ctx context.Context, t *testing.T) {
		require.NoError(t, sandbox.CheckReadyConditions(ctx, nodes))
		node, err := sandbox.BusiestNode(ctx, workload, nodes)
		require.NoError(t, err)
		printed, err := sandbox.NodeStatus(ctx, node)
		require.NoError(t, err)
		t.Log(printed)
		require.NoError(t, sandbox.CheckAgentMetrics(ctx, node))
	})
	step(t, "packets arrive and show the addresses they should", func(ctx context.Context, t *testing.T) {
		probes, err := sandbox.Connectivity(ctx, workload, nodes)
		require.NoError(t, err)
		require.NoError(t, scenario.CheckMatrix(probes))
	})
	step(t, "a deleted pod's address cools and is given again", func(ctx context.Context, t *testing.T) {
		node, err := sandbox.BusiestNode(ctx, workload, nodes)
		require.NoError(t, err)
		cooling, err := sandbox.Cooling(ctx, podNetwork, node)
		require.NoError(t, err)
		require.NoError(t, cooling.Check())
		t.Logf("%s was given again after %s", cooling.Address, cooling.ReusedAfter)
	})
	step(t, "pods live and start while the agent is killed, and it changes nothing when it is back", func(ctx context.Context, t *testing.T) {
		node, err := sandbox.BusiestNode(ctx, workload, nodes)
		require.NoError(t, err)
		killed, err := sandbox.KillAgent(ctx, workload, node)
		require.NoError(t, err)
		require.NoError(t, killed.Check())
		t.Logf("killed %v, %s is back", killed.Killed, killed.Returned)
	})
	step(t, "a node whose role lost a right says so when pods wait for it, and is ready again without them", func(ctx context.Context, t *testing.T) {
		short, err := sandbox.MissingPermission(ctx, nodes)
		require.NoError(t, err)
		require.Equal(t, "MissingIAMPermissions", short.Condition.Reason)
		require.Contains(t, short.Status, "MissingIAMPermissions")
		t.Logf("%s: %s\n%s", short.Condition.Reason, short.Condition.Message, short.Status)
	})
	step(t, "nothing is left when the pods are gone", func(ctx context.Context, t *testing.T) {
		left, took, err := sandbox.ScaleToZero(ctx, workload, nil)
		require.NoError(t, err)
		require.True(t, left.None(), "left over: %s", left)
		t.Logf("after %s", took)
	})
}

func TestBadInputGivesReasonsAndTheRestWorks(t *testing.T) {
	const zone, otherZone = "us-east-1b", "us-east-1a"
	withoutWorkload(t)
	step(t, "a PodNetwork with an unknown field is refused by name", func(ctx context.Context, t *testing.T) {
		require.NoError(t, sandbox.UnknownField(ctx, "warmPool"))
		require.NoError(t, sandbox.WaitReady(ctx, podNetwork))
	})
	step(t, "an ENIConfig with a missing subnet closes its zone only, until it is repaired", func(ctx context.Context, t *testing.T) {
		report(t)(sandbox.MissingSubnet(ctx, podNetwork, zone, otherZone))
	})
	step(t, "a NodePool pinned to a zone without an ENIConfig is told so, until there is one", func(ctx context.Context, t *testing.T) {
		report(t)(sandbox.MissingENIConfig(ctx, podNetwork, zone, otherZone))
	})
}

// report logs what the user is told about bad input.
func report(t *testing.T) func(scenario.BadInput, error) {
	t.Helper()
	return func(bad scenario.BadInput, err error) {
		t.Helper()
		require.NoError(t, err)
		t.Logf("condition: %s\nevents: %q\nevents of the pod: %q\nwhy: %s\nelsewhere: %s\nrepaired: %s",
			bad.Condition, bad.Events, bad.PodEvents, bad.Why, bad.OtherNode, bad.RepairedNode)
	}
}

func TestMaxPodsIsTheSameInEveryFormatOfUserDataAndOnTheNode(t *testing.T) {
	withoutWorkload(t)
	step(t, "with three AMI families, and of instance types with several network cards, without prefixes, and without a hypervisor", func(ctx context.Context, t *testing.T) {
		results, err := sandbox.MaxPods(ctx)
		require.NoError(t, err)
		for _, result := range results {
			require.NoError(t, result.Check())
		}
	})
}

func TestANodeOfStaticAllocationNeedsNoCallOfEC2(t *testing.T) {
	withoutWorkload(t)
	step(t, "one node with its pod ENI from the launch, and one that asks for a public address", func(ctx context.Context, t *testing.T) {
		static, public, err := sandbox.Static(ctx, podNetwork, "m5.large")
		require.NoError(t, err)
		require.Equal(t, "Static", static.Labels[v1alpha1.LabelAllocation])
		require.Equal(t, 7, static.Prefixes(), "108 pods on the pod network")
		require.Len(t, static.PodENIs, 1)
		require.Equal(t, []int{110, 110, 110}, []int{static.MaxPods, static.Allocatable, static.UserDataMaxPods})
		require.Empty(t, static.AWSCalls)
		require.NotContains(t, strings.Join(static.Events, "\n"), launch.StaticAllocationUnavailable)

		require.Equal(t, "Dynamic", public.Labels[v1alpha1.LabelAllocation])
		require.NotEmpty(t, public.AWSCalls)
		require.Contains(t, strings.Join(public.Events, "\n"), launch.StaticAllocationUnavailable+": Launched with dynamic allocation (PublicAddressRequested)")
	})
}

// withoutWorkload applies the examples but for their pods, for tests that bring pods of their own and leave nothing.
func withoutWorkload(t *testing.T) {
	t.Helper()
	undo(t, nothingIsLeft)
	_, err := sandbox.Apply(t.Context(), "Deployment")
	require.NoError(t, err)
	require.NoError(t, sandbox.WaitReady(t.Context(), podNetwork))
}

// undo takes back a change of what all tests share when this test ends, however it ends; what was registered last goes first.
func undo(t *testing.T, back func(context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stepDeadline)
		defer cancel()
		if err := back(ctx); err != nil {
			t.Errorf("taking back what the test did: %v\n%s", err, sandbox.Diagnose(context.Background()))
		}
	})
}

// nothingIsLeft of a test: later ones count on an empty cluster.
func nothingIsLeft(ctx context.Context) error {
	left, err := sandbox.WaitNoLeaks(ctx, nil)
	if err == nil && !left.None() {
		err = fmt.Errorf("left over: %s", left)
	}
	return err
}
