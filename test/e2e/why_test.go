// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
	"github.com/dovetail-dev/dovetail/test/scenario"
)

// TestWhyNamesTheCauseOfWhatIsShort has the causes that are not of pod subnets: TestPodsGoWherePodSubnetsHaveRoom and
// TestBadInputGivesReasonsAndTheRestWorks have those.
func TestWhyNamesTheCauseOfWhatIsShort(t *testing.T) {
	const roomy, small, limited, late = "roomy", "small", "limited", "late"
	withoutWorkload(t)
	parent := t
	machines := sandbox.Machines()
	undo(t, machines.End)
	// answer is asserted by the cause and the words of the sentence that comes first.
	answer := func(ctx context.Context, t *testing.T, pod string, cause diagnosis.Cause, words ...string) {
		t.Helper()
		why, err := sandbox.WaitWhy(ctx, pod, cause, words...)
		require.NoError(t, err)
		t.Log(why.Printed)
	}

	if !step(t, "two nodes", func(ctx context.Context, t *testing.T) {
		require.NoError(t, machines.Launch(ctx, scenario.Machine{Name: roomy}))
		require.NoError(t, machines.Launch(ctx, scenario.Machine{Name: small, MaxPods: 4}))
		require.NoError(t, machines.Wait(ctx))
	}) {
		t.FailNow()
	}
	step(t, "the NodePool's limit", func(ctx context.Context, t *testing.T) {
		require.NoError(t, machines.Launch(ctx, scenario.Machine{Name: limited, CPULimit: "1"})) // an m5.large has 2
		answer(ctx, t, limited, diagnosis.CauseNodePoolLimit, "cpu is 1 and 0 is used")
	})
	step(t, "EC2 throttles the launch", func(ctx context.Context, t *testing.T) {
		end, err := sandbox.Throttle(ctx, "CreateFleet")
		undo(t, end)
		require.NoError(t, err)
		require.NoError(t, machines.Launch(ctx, scenario.Machine{Name: late}))
		answer(ctx, t, late, diagnosis.CauseEC2Throttled, "not Launched yet", "Request limit exceeded")
	})
	step(t, "max-pods", func(ctx context.Context, t *testing.T) {
		waiting, end, err := machines.Crowd(ctx, small, 4) // besides its agent and the pod that it was launched for
		undo(t, end)
		require.NoError(t, err)
		answer(ctx, t, waiting, diagnosis.CauseMaxPodsReached, machines.Node(small).Name+" (4)")
	})
	var waiting string
	step(t, "EC2 throttles the agent", func(ctx context.Context, t *testing.T) {
		end, err := sandbox.Throttle(ctx, "AssignPrivateIpAddresses", "CreateNetworkInterface")
		undo(parent, end)
		require.NoError(t, err)
		pods, err := machines.BeyondAddresses(ctx, roomy)
		require.NoError(t, err)
		waiting, end, err = machines.Crowd(ctx, roomy, pods)
		undo(parent, end)
		require.NoError(t, err)
		answer(ctx, t, waiting, diagnosis.CauseEC2Throttled, "RequestLimitExceeded")
	})
	step(t, "the agent does not run", func(ctx context.Context, t *testing.T) {
		mend, err := machines.BreakAgents(ctx, roomy)
		require.NoError(t, err)
		undo(t, mend)
		answer(ctx, t, waiting, diagnosis.CauseAgentNotReady, "container agent")
		require.EventuallyWithT(t, func(c *assert.CollectT) { // it is started again, and crashes again
			_, err = sandbox.Kubectl(ctx, "node", "status", machines.Node(roomy).Name)
			require.ErrorContains(c, err, "does not run: container agent: CrashLoopBackOff")
		}, time.Minute, time.Second)
	})
}
