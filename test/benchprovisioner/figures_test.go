// SPDX-License-Identifier: Apache-2.0

package benchprovisioner

import (
	"slices"
	"time"
)

// figure is what one contender took.
type figure struct {
	Name  string        `json:"name"`
	Count int           `json:"count"`
	P50   time.Duration `json:"p50Nanoseconds"`
	P99   time.Duration `json:"p99Nanoseconds"`
	// Ratio of P50 to upstream's, and what it is more.
	Ratio float64       `json:"ratio,omitempty"`
	More  time.Duration `json:"moreNanoseconds"`
	// Allocated by the operation, the median.
	Allocated allocation `json:"allocated"`
}

type allocation struct {
	Objects uint64 `json:"objects"`
	Bytes   uint64 `json:"bytes"`
}

type samples struct {
	took           []time.Duration
	objects, bytes []uint64
}

func (s *samples) add(took time.Duration, allocated allocation) {
	s.took, s.objects, s.bytes = append(s.took, took), append(s.objects, allocated.Objects), append(s.bytes, allocated.Bytes)
}

// figure of a contender; i is its place, and the first is what the others are compared with.
func (s *samples) figure(name string, before []figure, i int) figure {
	slices.Sort(s.took)
	slices.Sort(s.objects)
	slices.Sort(s.bytes)
	n := len(s.took)
	f := figure{
		Name: name, Count: n, P50: s.took[n/2], P99: s.took[n*99/100],
		Allocated: allocation{Objects: s.objects[n/2], Bytes: s.bytes[n/2]},
	}
	if i > 0 {
		first := before[len(before)-i]
		f.Ratio, f.More = float64(f.P50)/float64(first.P50), f.P50-first.P50
	}
	return f
}
