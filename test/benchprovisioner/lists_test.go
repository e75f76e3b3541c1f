// SPDX-License-Identifier: Apache-2.0

package benchprovisioner

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// listInstanceTypes asks for all instance types again and again, as each scheduling round does.
func listInstanceTypes(t *testing.T, w *world) (figures []figure) {
	contenders := w.contenders(withoutNetwork, oneENIConfig, threeENIConfigs)
	for _, c := range contenders { // the pod subnets are known once a launch or the controller has read them
		if c.own != nil {
			for _, subnet := range w.account.podSubnets {
				require.NoError(t, c.own.PodSubnets.Ensure(c.ctx, subnet.id))
			}
		}
	}
	for _, state := range []struct {
		name       string
		count      int
		invalidate func(*side)
	}{
		{"warm", *lists, func(*side) {}},
		{"offerings changed", max(*lists/5, 2), func(s *side) { s.unavailable.MarkSubnetUnavailable("subnet-of-somebody-else") }},
	} {
		samples := make([]samples, len(contenders))
		for round := range state.count + warmUp {
			for i, c := range contenders {
				state.invalidate(c.side)
				took, allocated := measureList(t, c)
				if round >= warmUp {
					samples[i].add(took, allocated)
				}
			}
		}
		for i, c := range contenders {
			figures = append(figures, samples[i].figure(c.name+", "+state.name, figures, i))
		}
	}
	return figures
}

// warmUp rounds fill caches.
const warmUp = 3

func measureList(t *testing.T, c contender) (took time.Duration, allocated allocation) {
	pool := nodePool(c.class)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	instanceTypes, err := c.cloudProvider.GetInstanceTypes(c.ctx, pool)
	took = time.Since(start)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Greater(t, len(instanceTypes), 1000)
	return took, allocation{Objects: after.Mallocs - before.Mallocs, Bytes: after.TotalAlloc - before.TotalAlloc}
}
