// SPDX-License-Identifier: Apache-2.0

// Package exhausted_test asserts where the demo starts: a cluster whose pods take the addresses of their nodes' subnets. It drives the
// built binaries: run `make build controlplane` before.
package exhausted_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// deadline ends a test that hangs; it is no expectation.
const deadline = 3 * time.Minute

func TestPodsTakeTheAddressesOfTheirNodesSubnets(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	s, _, err := scenario.Up(ctx, scenario.Options{Dir: t.TempDir(), BinDir: "../../bin", Examples: "../../examples/exhausted", UpFlags: []string{"--layout", "exhausted"}})
	if s != nil {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if t.Failed() {
				t.Log(s.Diagnose(ctx))
			}
			require.NoError(t, s.Down(ctx))
		})
	}
	require.NoError(t, err)
	before, err := s.NodeSubnets(ctx)
	require.NoError(t, err)
	require.Equal(t, 3*251, before.Usable)

	// m5.large: three ENIs of ten addresses. The first pod of a node makes it take a second ENI, the tenth a third.
	const perNode = 12
	workload, err := s.Deploy(ctx, "pods", 3*perNode, "", false)
	require.NoError(t, err)
	require.NoError(t, s.WaitRunning(ctx, workload, nil))
	nodes, err := s.GroupNodes(ctx, "apps", 3)
	require.NoError(t, err)
	t.Run("pods have addresses of the primary ENI and of others, all of the node's subnet", func(t *testing.T) {
		perSubnet, err := s.PodsPerSubnet(ctx, workload)
		require.NoError(t, err)
		pods := 0
		for _, subnet := range perSubnet {
			for _, node := range nodes {
				if node.Primary.Subnet == subnet.ID {
					pods += subnet.Pods
				}
			}
		}
		require.Equal(t, 3*perNode, pods)
		for _, node := range nodes {
			require.Len(t, node.Primary.Secondaries, 9)
			require.Equal(t, 29, node.MaxPods)
		}
	})
	t.Run("packets arrive, and show the addresses they should", func(t *testing.T) {
		probes, err := s.ConnectivityOfVPCCNI(ctx, workload, nodes)
		require.NoError(t, err)
		require.NoError(t, scenario.CheckProbes(probes))
		for _, probe := range probes {
			t.Logf("%s: %s to %s saw %s", probe.Path, probe.From, probe.To, probe.Saw)
		}
	})
	t.Run("a whole ENI is kept free", func(t *testing.T) {
		require.Eventually(t, func() bool {
			nodes, err = s.GroupNodes(ctx, "apps", 3)
			require.NoError(t, err)
			for _, node := range nodes {
				if len(node.PodENIs) != 2 {
					return false
				}
			}
			return true
		}, deadline, time.Second)
		fleet, err := s.Fleet(ctx)
		require.NoError(t, err)
		for _, member := range fleet {
			require.Equal(t, 30, member.Addresses)
		}
	})
}
