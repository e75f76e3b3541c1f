// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

// spotPools are of one zone, so that a fleet chooses by type alone.
var spotPools = []string{"m5.large", "c5.large", "m6a.large", "c5a.large", "c6a.large", "r5.large"}

// chosen launches one spot instance with a strategy and returns its type. The first pool has the highest priority.
func (w *world) chosen(strategy ec2types.SpotAllocationStrategy) string {
	w.Helper()
	var overrides []ec2types.FleetLaunchTemplateOverridesRequest
	for i, name := range spotPools {
		o := w.on(name, testNodes, "a")
		o.Priority = ptr(float64(i))
		overrides = append(overrides, o)
	}
	in := fleet("spot", 1, overrides...)
	in.TargetCapacitySpecification.DefaultTargetCapacityType = ec2types.DefaultTargetCapacityTypeSpot
	in.OnDemandOptions = nil
	in.SpotOptions = &ec2types.SpotOptionsRequest{AllocationStrategy: strategy}
	out, err := w.ec2.CreateFleet(w.ctx(), in)
	require.NoError(w, err)
	require.Len(w, out.Instances, 1)
	return string(out.Instances[0].InstanceType)
}

func TestASpotFleetChoosesByPriceAndByCapacity(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("spot", primaryOnly()))
	depth := func(name string) int { return w.cloud.depth(pool{name, "us-east-1a", lifecycleSpot}, 1) }
	best := func(better func(a, b string) bool, among func(string) bool) string {
		found := ""
		for _, name := range spotPools {
			if among(name) && (found == "" || better(name, found)) {
				found = name
			}
		}
		return found
	}
	cheaper := func(a, b string) bool { return spotPrice(a, "us-east-1a") < spotPrice(b, "us-east-1a") }
	deeper := func(a, b string) bool { return depth(a) > depth(b) || depth(a) == depth(b) && cheaper(a, b) }
	all := func(string) bool { return true }
	enough := func(name string) bool { return depth(name) >= deep }
	cheapest := best(cheaper, all)
	require.False(t, enough(cheapest), "the strategies differ")

	require.Equal(t, cheapest, w.chosen(ec2types.SpotAllocationStrategyLowestPrice))
	require.Equal(t, best(deeper, all), w.chosen(ec2types.SpotAllocationStrategyCapacityOptimized))
	weighed := w.chosen(ec2types.SpotAllocationStrategyPriceCapacityOptimized)
	require.Equal(t, best(cheaper, enough), weighed)
	first := func(string, string) bool { return false }
	require.Equal(t, best(first, enough), w.chosen(ec2types.SpotAllocationStrategyCapacityOptimizedPrioritized))

	_, err := w.cloud.AddFault(Fault{Capacity: &CapacityFault{Type: weighed, Lifecycle: lifecycleSpot}})
	require.NoError(t, err)
	next := best(cheaper, func(name string) bool { return enough(name) && name != weighed })
	require.Equal(t, next, w.chosen(ec2types.SpotAllocationStrategyPriceCapacityOptimized), "an empty pool is the last to be tried")
	require.NotEqual(t, cheapest, next)
}

func TestAFleetWithoutAnyCapacityAnswersWithErrorsOnly(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("none", primaryOnly()))
	_, err := w.cloud.AddFault(Fault{Capacity: &CapacityFault{}})
	require.NoError(t, err)
	out, err := w.ec2.CreateFleet(t.Context(), fleet("none", 1, w.on("m5.large", testNodes, "a"), w.on("m5.xlarge", testNodesB, "b")))
	require.NoError(t, err, "the request itself is good")
	require.Empty(t, out.Instances)
	require.Len(t, out.Errors, 2)
	for _, e := range out.Errors {
		require.Equal(t, "InsufficientInstanceCapacity", *e.ErrorCode)
		require.Equal(t, ec2types.InstanceLifecycleOnDemand, e.Lifecycle)
	}
	described, err := w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{})
	require.NoError(t, err)
	require.Empty(t, described.Reservations)
}
