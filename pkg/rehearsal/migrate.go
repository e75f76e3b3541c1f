// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/samber/lo"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// Migration as it went.
type Migration struct {
	Complete bool `json:"complete"`
	// Seconds until it was complete, or until it was given up.
	Seconds float64 `json:"seconds"`
	// Why it is not complete.
	Why []string `json:"why,omitempty"`
	// Launched and Ended nodes.
	Launched int `json:"nodesLaunched"`
	Ended    int `json:"nodesEnded"`
	// MostWaiting is the largest number of pods without a node at one time, besides those that had none before.
	MostWaiting int `json:"mostPodsWaiting"`
	// Waited for what, and for how long.
	Waited []Wait `json:"waited,omitempty"`
}

// migrate applies the change and watches what becomes of it.
func (t *theater) migrate(ctx context.Context, timeout time.Duration, before, change *Cluster) (Migration, *view, error) {
	prepared := *change
	prepared.NodeClasses = t.cast(change.NodeClasses)
	started := time.Now()
	if err := t.release(ctx, before.NodePools); err != nil {
		return Migration{}, nil, fmt.Errorf("disruption budgets: %w", err)
	}
	if err := t.create(ctx, prepared.Objects()); err != nil {
		return Migration{}, nil, err
	}
	t.say("the change is applied")
	w := &watcher{theater: t, started: started, claims: map[string]bool{}, seconds: map[Wait]float64{}}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := poll(limited, time.Second, w.tick)
	if err != nil && (ctx.Err() != nil || limited.Err() == nil) {
		return Migration{}, nil, err
	}
	if w.view == nil {
		return Migration{}, nil, fmt.Errorf("the API server did not answer within %s: %w", timeout, err)
	}
	m := w.migration(err != nil, timeout)
	if m.Complete {
		return m, w.view, nil
	}
	said, err := t.saidByKarpenter(ctx, w.view)
	m.Why = append(m.Why, lo.Map(said, func(text string, _ int) string { return t.names.back(text) })...)
	return m, w.view, err
}

// watcher of a migration.
type watcher struct {
	*theater
	started  time.Time
	view     *view
	last     string    // print of the view
	changed  time.Time // when it changed
	complete time.Time // since when it has been complete, zero for not
	claims   map[string]bool
	first    []karpv1.NodeClaim
	seconds  map[Wait]float64
	unplaced int // pods that had no node at the start
	most     int
	said     string
}

// tick looks, and tells whether it is over.
func (w *watcher) tick(ctx context.Context) (bool, error) {
	v, err := w.look(ctx)
	if err != nil {
		return false, err
	}
	if err := w.letGo(ctx, v.nodes); err != nil {
		return false, err
	}
	if w.view == nil {
		w.first, w.changed, w.unplaced = v.claims, v.at, len(v.waiting())
	} else if !v.complete() {
		for _, wait := range w.view.waits(w.unplaced) {
			w.seconds[wait] += v.at.Sub(w.view.at).Seconds()
		}
	}
	for _, c := range v.claims {
		w.claims[c.Name] = true
	}
	w.view, w.most = v, max(w.most, len(v.waiting())-w.unplaced)
	if now := v.print(); now != w.last {
		w.last, w.changed = now, v.at
	}
	switch {
	case !v.complete():
		w.complete = time.Time{}
	case w.complete.IsZero():
		w.complete = v.at
	}
	if line := fmt.Sprintf("%d nodes, %d to replace, %d to empty; %d pods run, %d wait", len(v.nodes), v.outdated(), v.toMigrate(), v.running(), len(v.waiting())); line != w.said {
		w.said = line
		w.say("%s", line)
	}
	return !w.complete.IsZero() && v.at.Sub(w.changed) > quiet || v.at.Sub(w.changed) > stall, nil
}

func (w *watcher) migration(timedOut bool, timeout time.Duration) Migration {
	m := Migration{Complete: !w.complete.IsZero(), MostWaiting: w.most}
	end := w.changed
	if m.Complete {
		end = w.complete
	} else {
		m.Why = lo.Map(w.view.blocked(), func(text string, _ int) string { return w.names.back(text) })
		if timedOut {
			end = w.view.at
			m.Why = append(m.Why, fmt.Sprintf("it was given up after --timeout %s", timeout))
		} else {
			m.Why = append(m.Why, fmt.Sprintf("nothing has changed for %s", stall))
		}
	}
	m.Seconds = end.Sub(w.started).Seconds()
	m.Launched = len(w.claims) - len(w.first)
	m.Ended = len(w.claims) - len(w.view.claims)
	for wait, seconds := range w.seconds {
		wait.Seconds = seconds
		m.Waited = append(m.Waited, wait)
	}
	slices.SortFunc(m.Waited, func(a, b Wait) int {
		if a.Seconds != b.Seconds {
			return int(b.Seconds*1000 - a.Seconds*1000)
		}
		return len(a.Object) - len(b.Object)
	})
	return m
}
