// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"hash/fnv"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// ranking is the order in which a fleet tries its pools, lower first; the second figure decides among equals of the first.
type ranking func(candidate, ec2types.FleetLaunchTemplateOverridesRequest) [2]float64

// deep is the depth from which a pool has capacity enough for whoever weighs capacity against price.
const deep = 5

// depth is how much capacity a spot pool has, 0 to 9. It is not AWS's, which tells no one: it is the same for a type and zone every
// time, so that the cheapest pool is not always what a fleet takes. A pool that a fault leaves too little in has less than any other.
func (c *Cloud) depth(of pool, wanted int) int {
	if left, limited := c.capacityLeft(of); limited && left < wanted {
		return -1
	}
	sum := fnv.New32a()
	fmt.Fprint(sum, "depth", of.instanceType, of.zone)
	return int(sum.Sum32() % 10)
}

// capacityLeft is what faults leave in a pool; without a fault there is no limit.
func (c *Cloud) capacityLeft(of pool) (left int, limited bool) {
	c.active(func(f *activeFault) bool {
		if f.Capacity != nil && f.Capacity.matches(of) {
			if n := f.remaining(of); !limited || n < left {
				left, limited = n, true
			}
		}
		return true
	})
	return left, limited
}

// ranking returns the order of an allocation strategy ("Allocation strategies for EC2 Fleet", in the EC2 user guide).
func (r *request) ranking(in *ec2.CreateFleetInput, spot bool) (ranking, error) {
	if !spot {
		strategy := ec2types.FleetOnDemandAllocationStrategyLowestPrice
		if in.OnDemandOptions != nil {
			override(&strategy, in.OnDemandOptions.AllocationStrategy)
		}
		switch strategy {
		case ec2types.FleetOnDemandAllocationStrategyLowestPrice:
			return func(c candidate, _ ec2types.FleetLaunchTemplateOverridesRequest) [2]float64 {
				price, _ := instancetypes.Price(c.instanceType)
				return [2]float64{price}
			}, nil
		case ec2types.FleetOnDemandAllocationStrategyPrioritized:
			return byPriority, nil
		}
		return nil, invalidValue(string(strategy), "OnDemandOptions.AllocationStrategy")
	}
	strategy := ec2types.SpotAllocationStrategyLowestPrice
	if in.SpotOptions != nil {
		override(&strategy, in.SpotOptions.AllocationStrategy)
	}
	wanted := int(*in.TargetCapacitySpecification.TotalTargetCapacity)
	depth := func(c candidate) int {
		return r.depth(pool{instanceType: c.instanceType, zone: c.zone, lifecycle: lifecycleSpot}, wanted)
	}
	price := func(c candidate) float64 { return spotPrice(c.instanceType, c.zone) }
	shallow := func(c candidate) float64 {
		switch d := depth(c); {
		case d >= deep:
			return 0
		case d >= 0:
			return 1
		}
		return 2
	}
	switch strategy {
	case ec2types.SpotAllocationStrategyLowestPrice:
		return func(c candidate, _ ec2types.FleetLaunchTemplateOverridesRequest) [2]float64 {
			return [2]float64{price(c)}
		}, nil
	case ec2types.SpotAllocationStrategyPriceCapacityOptimized:
		return func(c candidate, _ ec2types.FleetLaunchTemplateOverridesRequest) [2]float64 {
			return [2]float64{shallow(c), price(c)}
		}, nil
	case ec2types.SpotAllocationStrategyCapacityOptimized:
		return func(c candidate, _ ec2types.FleetLaunchTemplateOverridesRequest) [2]float64 {
			return [2]float64{-float64(depth(c)), price(c)}
		}, nil
	case ec2types.SpotAllocationStrategyCapacityOptimizedPrioritized:
		// Capacity comes first, priorities among pools that have enough.
		return func(c candidate, o ec2types.FleetLaunchTemplateOverridesRequest) [2]float64 {
			return [2]float64{shallow(c), byPriority(c, o)[0]}
		}, nil
	}
	return nil, notSimulated("the allocation strategy %s", strategy)
}

func byPriority(_ candidate, o ec2types.FleetLaunchTemplateOverridesRequest) [2]float64 {
	return [2]float64{awssdk.ToFloat64(o.Priority)}
}
