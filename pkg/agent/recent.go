// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/agent/status"
)

// recentLimit is how many errors are remembered.
const recentLimit = 20

// recent errors. One that repeats is one entry, so that it does not push out the others.
type recent struct {
	mu      sync.Mutex
	entries []status.Error // newest last
}

func (r *recent) add(reason, message string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := status.Error{Reason: reason, Message: message, First: now}
	same := func(e status.Error) bool { return e.Reason == reason && e.Message == message }
	if i := slices.IndexFunc(r.entries, same); i >= 0 {
		entry = r.entries[i]
		r.entries = slices.Delete(r.entries, i, i+1)
	}
	entry.Last = now
	entry.Count++
	r.entries = append(r.entries, entry)
	if over := len(r.entries) - recentLimit; over > 0 {
		r.entries = slices.Delete(r.entries, 0, over)
	}
}

// list returns them, newest first.
func (r *recent) list() []status.Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Clone(r.entries)
	slices.Reverse(list)
	return list
}
