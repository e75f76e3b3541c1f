// SPDX-License-Identifier: Apache-2.0

package podcapacity_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// FuzzANeedIsWithinTheNode: its numbers are labels of Nodes and of NodePools' requirements, which anybody may have written.
func FuzzANeedIsWithinTheNode(f *testing.F) {
	f.Add(110, 2, 10, true, false, false)
	f.Add(29, 2, 10, false, true, true)
	f.Add(-1, -1, -1, true, true, false)
	f.Add(math.MaxInt, math.MaxInt, math.MaxInt, true, false, false)
	f.Add(math.MinInt, 1, math.MinInt, false, false, true)
	f.Fuzz(func(t *testing.T, maxPods, enis, addresses int, prefixes, static, whole bool) {
		n := podcapacity.NodeNeed{MaxPods: maxPods, PodENIs: enis, IPsPerENI: addresses, Prefixes: prefixes, Static: static, WholeENIs: whole}
		need := n.Most()
		require.GreaterOrEqual(t, need.Prefixes, 0)
		require.GreaterOrEqual(t, need.Addresses, 0)
		require.GreaterOrEqual(t, need.ENIs, 0)
		require.LessOrEqual(t, need.ENIs, max(enis, 0))
		require.True(t, need.Prefixes == 0 || need.Addresses == 0, "one or the other")
		if prefixes {
			require.LessOrEqual(t, need.Prefixes, max(maxPods, 0), "a prefix is 16 addresses")
		} else if !whole {
			require.LessOrEqual(t, need.Addresses, max(maxPods, 0))
		}
		if need == (podcapacity.Need{}) {
			return
		}
		require.GreaterOrEqual(t, need.ENIs, 1, "addresses are on an ENI")
		require.LessOrEqual(t, float64(need.Prefixes+need.Addresses), float64(need.ENIs)*float64(addresses-1), "more than the slots of its ENIs")
	})
}
