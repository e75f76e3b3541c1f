// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// release gives back in three steps, each of which a new demand undoes: the surplus lasts; its addresses are no longer
// published; and when no plugin can hold the old pool any more, and still none of them is used, EC2 takes them.
func (a *Allocator) release(ctx context.Context, d Demand, plan pool.Plan, result Result) (Result, error) {
	now := a.now()
	if a.surplusSince.IsZero() {
		a.surplusSince, a.settle = now, Settle+time.Duration(a.rand.Int64N(int64(Settle/2)))
	}
	if due := a.surplusSince.Add(a.settle); now.Before(due) {
		if len(a.returning) > 0 { // of a surplus before this one
			clear(a.returning)
			result.Again = true
		}
		result.At = earlier(result.At, due)
		return result, nil
	}
	if result.Again = a.unpublish(plan.Returns); result.Again {
		return result, nil
	}
	for p, since := range a.returning {
		if slices.Contains(d.Published, p) {
			a.returning[p] = time.Time{}
		} else if since.IsZero() {
			a.returning[p] = now
		}
	}
	for _, r := range plan.Returns {
		due, published := a.due(r)
		switch {
		case published: // the caller writes the pool before it steps again
		case now.Before(due):
			result.At = earlier(result.At, due)
		default:
			a.log.Info("giving addresses back", "eni", r.ENI, "whole", r.Whole, "prefixes", r.Prefixes, "reason", plan.Reason)
			err := a.giveBack(ctx, r)
			result.Again = err == nil
			return result, err
		}
	}
	return result, nil
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// unpublish makes returning exactly what the plan gives back, and tells whether that is news.
func (a *Allocator) unpublish(returns []pool.Return) bool {
	var all []netip.Prefix
	for _, r := range returns {
		all = append(all, r.Prefixes...)
	}
	changed := false
	for p := range a.returning {
		if !slices.Contains(all, p) {
			delete(a.returning, p)
			changed = true
		}
	}
	for _, p := range all {
		if _, known := a.returning[p]; !known {
			a.returning[p] = time.Time{}
			changed = true
		}
	}
	return changed
}

// due is when the last of a return's addresses has been unpublished for long enough.
func (a *Allocator) due(r pool.Return) (due time.Time, published bool) {
	for _, p := range r.Prefixes {
		since := a.returning[p]
		if since.IsZero() {
			return due, true
		}
		if at := since.Add(Grace); at.After(due) {
			due = at
		}
	}
	return due, false
}

func (a *Allocator) giveBack(ctx context.Context, r pool.Return) error {
	i := a.index(r.ENI)
	if r.Whole {
		if err := a.cloud.Detach(ctx, a.attached[i]); err != nil {
			a.listed = false
			return err
		}
		a.attached[i].Detaching = true
		a.listAt, a.sweepAt = a.now().Add(soon), a.now().Add(soon)
	} else {
		if err := a.cloud.Unassign(ctx, r.ENI, r.Prefixes); err != nil {
			a.listed = false // what the ENI still has is not known
			if eni.Classify(err) == eni.NotAssigned {
				return nil // a try before this one had its effect, or somebody else did it: the next list tells
			}
			return err
		}
		a.attached[i].Prefixes = slices.DeleteFunc(slices.Clone(a.attached[i].Prefixes), func(p netip.Prefix) bool { return slices.Contains(r.Prefixes, p) })
	}
	for _, p := range r.Prefixes {
		delete(a.returning, p)
	}
	return nil
}
