// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"slices"
	"time"
)

const (
	// contestedAfter repairs of one object within contestWindow, another program is at work that undoes each of them.
	contestedAfter = 10
	contestWindow  = time.Minute
	// calm is how long an object must need no repair until it counts as left alone; longer than the longest pause.
	calm = 5 * time.Minute
	// Pauses between repairs while an object is contested, doubled each time: two programs in a loop take a node's CPU.
	firstPause, lastPause = time.Second, slowPeriod
)

// contest counts how often each object was repaired.
type contest struct {
	objects map[Change]*struggle
	pause   time.Duration
}

// struggle for one object.
type struggle struct {
	repairs   []time.Time // within contestWindow
	contested bool
}

// repaired says how long to leave the kernel alone after repairs, and which objects turned out to be contested with them.
func (c *contest) repaired(now time.Time, changes []Change) (pause time.Duration, found []Change) {
	for object, s := range c.objects {
		if now.Sub(s.repairs[len(s.repairs)-1]) > calm {
			delete(c.objects, object)
		}
	}
	again := false
	for _, change := range changes {
		s := c.objects[change]
		if s == nil {
			if c.objects == nil {
				c.objects = map[Change]*struggle{}
			}
			s = &struggle{}
			c.objects[change] = s
		}
		s.repairs = slices.DeleteFunc(append(s.repairs, now), func(t time.Time) bool { return now.Sub(t) >= contestWindow })
		if len(s.repairs) > contestedAfter && !s.contested {
			s.contested = true
			found = append(found, change)
		}
		again = again || s.contested
	}
	switch {
	case again:
		c.pause = min(max(2*c.pause, firstPause), lastPause)
		return c.pause, found
	case !c.contested():
		c.pause = 0
	}
	return 0, found
}

func (c *contest) contested() bool {
	for _, s := range c.objects {
		if s.contested {
			return true
		}
	}
	return false
}
