// SPDX-License-Identifier: Apache-2.0

package pool_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

var m5large = pool.Geometry{ENIs: 3, AddressesPerENI: 10}

func TestDecide(t *testing.T) {
	warmPrefix := pool.Targets{Prefix: 1}
	for name, tc := range map[string]struct {
		in   pool.Input
		want pool.Plan
	}{
		"a fresh node creates its first ENI with the warm prefix": {
			pool.Input{Targets: warmPrefix},
			pool.Plan{Action: pool.Create, Count: 1, Short: 16},
		},
		"a fresh node with a burst bound to it asks for the whole need at once": {
			pool.Input{Targets: warmPrefix, Waiting: 60, MaxPods: 110},
			pool.Plan{Action: pool.Create, Count: 5, Short: 76},
		},
		"free addresses at the target satisfy": {
			pool.Input{Targets: warmPrefix, Capacity: 16, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 1}}},
			pool.Plan{Action: pool.Satisfied},
		},
		"the first pod makes the warm prefix incomplete and a slot of the ENI is used": {
			pool.Input{Targets: warmPrefix, Capacity: 16, Leased: 1, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 1}}},
			pool.Plan{Action: pool.Assign, ENI: "a", Count: 1, Short: 1},
		},
		"a cooling address is not free": {
			pool.Input{Targets: pool.Targets{IP: 2}, Capacity: 16, Leased: 13, Cooling: 2, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 1}}},
			pool.Plan{Action: pool.Assign, ENI: "a", Count: 1, Short: 1},
		},
		"a full ENI makes way for the next": {
			pool.Input{Targets: warmPrefix, Capacity: 144, Leased: 140, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 9}}},
			pool.Plan{Action: pool.Create, Count: 1, Short: 12},
		},
		"a need beyond the room of the ENI takes the room first": {
			pool.Input{Waiting: 64, Capacity: 128, Leased: 128, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 8}}},
			pool.Plan{Action: pool.Assign, ENI: "a", Count: 1, Short: 64},
		},
		"the ENI that just fits is preferred to the emptier one": {
			pool.Input{Waiting: 32, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 2}, {ID: "b", DeviceIndex: 2, Used: 7}}},
			pool.Plan{Action: pool.Assign, ENI: "b", Count: 2, Short: 32},
		},
		"an ENI in a subnet that refused is passed over": {
			pool.Input{Waiting: 1, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 1, Blocked: true}, {ID: "b", DeviceIndex: 2, Used: 1}}},
			pool.Plan{Action: pool.Assign, ENI: "b", Count: 1, Short: 1},
		},
		"all ENIs full is exhaustion": {
			pool.Input{Waiting: 1, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 9}, {ID: "b", DeviceIndex: 2, Used: 9}}},
			pool.Plan{Action: pool.Exhausted, Short: 1},
		},
		"an ENI of somebody else takes an attachment": {
			pool.Input{Waiting: 1, OtherENIs: 2, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 9}}},
			pool.Plan{Action: pool.Exhausted, Short: 1},
		},
		"a type with one ENI can hold no pods on a pod network": {
			pool.Input{Geometry: pool.Geometry{ENIs: 1, AddressesPerENI: 50}, Waiting: 1},
			pool.Plan{Action: pool.Exhausted, Short: 1},
		},
		"warm addresses stop at the node's max-pods": {
			pool.Input{Targets: warmPrefix, MaxPods: 110, Capacity: 112, Leased: 105, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 7}}},
			pool.Plan{Action: pool.Satisfied},
		},
		"pods that wait are served beyond max-pods while others cool": {
			pool.Input{Targets: warmPrefix, MaxPods: 110, Capacity: 112, Leased: 100, Cooling: 10, Waiting: 10, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 7}}},
			pool.Plan{Action: pool.Assign, ENI: "a", Count: 1, Short: 8},
		},
		"the IP target overrules the prefix target": {
			pool.Input{Targets: pool.Targets{Prefix: 5, IP: 3}, Capacity: 16, Leased: 13, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 1}}},
			pool.Plan{Action: pool.Satisfied},
		},
		"the minimum is a floor of all addresses": {
			pool.Input{Targets: pool.Targets{MinimumIP: 40}, Capacity: 16, PodENIs: []pool.AttachedENI{{ID: "a", DeviceIndex: 1, Used: 1}}},
			pool.Plan{Action: pool.Assign, ENI: "a", Count: 2, Short: 24},
		},
		"single addresses are kept warm by whole ENIs": {
			pool.Input{Unit: pool.SingleAddress, Targets: pool.Targets{Prefix: 1, ENI: 1}},
			pool.Plan{Action: pool.Create, Count: 9, Short: 9},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := tc.in
			if in.Geometry == (pool.Geometry{}) {
				in.Geometry = m5large
			}
			if in.Unit == 0 {
				in.Unit = pool.Prefix
			}
			if in.OtherENIs == 0 {
				in.OtherENIs = 1
			}
			got := pool.Decide(in)
			if tc.want.Action != pool.Satisfied {
				require.NotEmpty(t, got.Reason)
			}
			got.Reason, got.Unit = "", 0
			require.Equal(t, tc.want, got)
		})
	}
}

// apply lets the EC2 of a perfect world carry out a plan.
func apply(in *pool.Input, plan pool.Plan) {
	switch plan.Action {
	case pool.Assign:
		for i := range in.PodENIs {
			if in.PodENIs[i].ID == plan.ENI {
				in.PodENIs[i].Used += plan.Count
			}
		}
	case pool.Create:
		index := in.OtherENIs + len(in.PodENIs)
		in.PodENIs = append(in.PodENIs, pool.AttachedENI{ID: fmt.Sprint("eni-", index), DeviceIndex: index, Used: plan.Count})
	}
	in.Capacity += plan.Count * int(plan.Unit)
}

func TestPlansEndAtTheTargetOrAtTheLimitOfTheInstanceAndNeverBeyond(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		in := pool.Input{
			Geometry:  pool.Geometry{ENIs: 1 + rng.IntN(8), AddressesPerENI: 1 + rng.IntN(30)},
			Targets:   pool.Targets{Prefix: rng.IntN(4), IP: rng.IntN(3) * rng.IntN(20), MinimumIP: rng.IntN(3) * rng.IntN(60), ENI: rng.IntN(3)},
			Unit:      []pool.Unit{pool.Prefix, pool.SingleAddress}[rng.IntN(2)],
			MaxPods:   rng.IntN(2) * rng.IntN(250),
			OtherENIs: 1,
			Waiting:   rng.IntN(80),
		}
		steps := 0
		for plan := pool.Decide(in); ; plan = pool.Decide(in) {
			if plan.Action == pool.Satisfied {
				require.Zero(t, in.Short())
				break
			}
			if plan.Action == pool.Exhausted {
				require.GreaterOrEqual(t, in.OtherENIs+len(in.PodENIs), min(in.Geometry.ENIs, 1+len(in.PodENIs)))
				for _, eni := range in.PodENIs {
					require.Equal(t, in.Geometry.AddressesPerENI-1, eni.Used, "exhausted although an ENI has room: %+v", in)
				}
				break
			}
			require.Positive(t, plan.Count)
			short := in.Short()
			apply(&in, plan)
			require.Less(t, plan.Count*int(plan.Unit), short+int(plan.Unit), "asked for more than the need, rounded up")
			steps++
			require.LessOrEqual(t, steps, in.Geometry.ENIs+1, "one step an ENI is enough")
		}
		require.LessOrEqual(t, in.OtherENIs+len(in.PodENIs), max(in.Geometry.ENIs, 1))
		for _, eni := range in.PodENIs {
			require.LessOrEqual(t, eni.Used, in.Geometry.AddressesPerENI-1)
		}
	}
}

func FuzzDecideAsksForSomethingPossible(f *testing.F) {
	f.Add(3, 10, 1, 0, 0, true, 110, 16, 3, 2, 5)
	f.Fuzz(func(t *testing.T, enis, addresses, prefix, ip, minimum int, prefixes bool, maxPods, capacity, leased, cooling, waiting int) {
		bound := func(n int) int { return int(uint(n) % 1000) }
		in := pool.Input{
			Geometry: pool.Geometry{ENIs: bound(enis), AddressesPerENI: bound(addresses)},
			Targets:  pool.Targets{Prefix: bound(prefix), IP: bound(ip), MinimumIP: bound(minimum)},
			Unit:     pool.SingleAddress, MaxPods: bound(maxPods), OtherENIs: 1,
			Capacity: bound(capacity), Leased: bound(leased), Cooling: bound(cooling), Waiting: bound(waiting),
		}
		if prefixes {
			in.Unit = pool.Prefix
		}
		plan := pool.Decide(in)
		switch plan.Action {
		case pool.Create:
			require.Greater(t, in.Geometry.ENIs, 1)
			require.Positive(t, plan.Count)
			require.Less(t, plan.Count, in.Geometry.AddressesPerENI)
		case pool.Satisfied, pool.Exhausted:
			require.Zero(t, plan.Count)
		default:
			t.Fatalf("unexpected %v", plan)
		}
	})
}
