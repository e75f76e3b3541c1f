// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// seeds to look at properties with; they are said when one has none.
func seeds(t *testing.T, property func(t *testing.T, seed uint64)) {
	t.Helper()
	for range 200 {
		seed := rand.Uint64() //nolint:gosec // any
		property(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestASeedAndARoundAreAllThatActionsDependOn(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		forwards, backwards := map[int][]Action{}, map[int][]Action{}
		for n := range 20 {
			forwards[n] = Round(seed, n)
		}
		for n := 19; n >= 0; n-- {
			backwards[n] = Round(seed, n)
		}
		require.Equal(t, forwards, backwards)
		require.NotEqual(t, forwards[0], forwards[1])
		require.NotEqual(t, forwards[0], Round(seed+1, 0))
	})
}

// TestTheSequenceOfASeedStays: a seed that was noted with a failure means the same next week. Who changes what is drawn changes this too, and
// knows that noted seeds are void.
func TestTheSequenceOfASeedStays(t *testing.T) {
	var first []string
	for _, a := range Round(1, 0) {
		first = append(first, a.At.String()+" "+a.String())
	}
	require.Equal(t, sequenceOfSeed1, first)
}

func TestEachFaultIsDrawnBeforeAnyIsDrawnAgain(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		var drawn []Kind
		for n := range 3 * len(faultKinds) {
			drawn = append(drawn, deal(seed, n)...)
		}
		for deck := range slices.Chunk(drawn, len(faultKinds)) {
			require.ElementsMatch(t, faultKinds, deck)
		}
	})
}

func TestActionsStayWithinWhatTheMachineAndKubernetesBear(t *testing.T) {
	// Nodes are marked NotReady after 40 s without a sign of life, and their pods are evicted five minutes later: then it is Kubernetes
	// that is tested.
	longest := map[Kind]time.Duration{PauseServer: 20 * time.Second, StopServer: 20 * time.Second, HangInstance: 60 * time.Second}
	seeds(t, func(t *testing.T, seed uint64) {
		for n := range 20 {
			pods, before := 0, time.Duration(0)
			drawn := map[Kind]int{}
			for _, a := range Round(seed, n) {
				require.GreaterOrEqual(t, a.At, before, "by time")
				require.Less(t, a.At, busy)
				require.LessOrEqual(t, a.For, busy)
				before = a.At
				drawn[a.Kind]++
				if limit, limited := longest[a.Kind]; limited {
					require.LessOrEqual(t, a.For, limit, a.String())
					require.Positive(t, a.For, a.String())
				}
				if a.Kind == Scale {
					pods += a.Count
					require.LessOrEqual(t, a.Count, slotOf(a.On).most)
				}
			}
			require.LessOrEqual(t, pods, 200)
			require.Equal(t, len(slots), drawn[Scale])
			require.NotEmpty(t, slices.Collect(maps.Keys(drawn)))
		}
	})
}

var sequenceOfSeed1 = []string{
	"1.7s scale wide ×30",
	"3s scale spot ×25",
	"7s kill-controller",
	"9.9s scale zone-c ×4",
	"11.8s scale zone-b ×33",
	"12s delete-pods ×3",
	"13.5s fragment-subnet us-east-1c ×18 for 28.3s",
	"14s scale zone-a ×1",
	"15.2s delete-pods ×8",
	"15.8s scale apart ×4",
	"17.1s capacity us-east-1a for 16.5s",
	"25.5s throttle DescribeNetworkInterfaces for 14.3s",
	"27.3s delete-node apart",
	"37.6s error CreateLaunchTemplate for 24.7s",
	"48.8s fill-subnet us-east-1b ×78 for 28.2s",
}
