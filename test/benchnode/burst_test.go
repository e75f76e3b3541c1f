// SPDX-License-Identifier: Apache-2.0

package benchnode

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// burstFigure is a burst of pods on a node: the time from the first one's binding until the first and the last has its address.
type burstFigure struct {
	Name  string         `json:"name"`
	Pods  int            `json:"pods"`
	First time.Duration  `json:"firstNanoseconds"`
	Last  time.Duration  `json:"lastNanoseconds"`
	Calls map[string]int `json:"ec2Calls"` // until the last pod had its address
}

func (b burstFigure) calls() string {
	var calls []string
	for action, count := range b.Calls {
		calls = append(calls, fmt.Sprintf("%d %s", count, action))
	}
	slices.Sort(calls)
	return cmp.Or(strings.Join(calls, ", "), "none")
}

// bursts on nodes of both allocations.
func bursts(t *testing.T, w *world) []burstFigure {
	dynamic := w.launch(t)
	eventually(t, func(c *assert.CollectT) { require.Len(c, dynamic.pool(t).Prefixes(), 1) }) // the default: one is warm
	static := w.launch(t, 7)
	return []burstFigure{
		dynamic.burst(t, fmt.Sprintf("dynamic allocation, one prefix warm, %s a call", perCall), "dynamic"),
		static.burst(t, "static allocation, without credentials", "static"),
	}
}

func (i *instance) burst(t *testing.T, name, prefix string) burstFigure {
	pods := newPods(t, prefix, *burst)
	i.world.takeCalls()
	ends := make([]time.Duration, len(pods))
	errs := make([]error, len(pods))
	var group sync.WaitGroup
	started := time.Now()
	for n, p := range pods {
		group.Go(func() {
			errs[n] = i.world.createPod(t.Context(), p.name, i.name)
			if errs[n] == nil {
				errs[n] = i.add(p)
			}
			ends[n] = time.Since(started)
		})
	}
	group.Wait()
	calls := i.world.takeCalls()
	require.NoError(t, errors.Join(errs...))
	return burstFigure{Name: name, Pods: len(pods), First: slices.Min(ends), Last: slices.Max(ends), Calls: calls}
}
