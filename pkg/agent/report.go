// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// report tells of the node's supply of addresses, by its condition and metrics. It looks at what plugins look at: they
// serve pods from a pool that an agent before this one has published, too.
func (a *Agent) report() {
	var s supply
	s.lacking, s.waiting = a.lacking, a.waiting
	if doc, err := pool.Read(a.opts.StateDir); err == nil {
		use := a.use
		if use == nil { // the step did not come so far
			fresh, err := a.usage(doc.Cooldown(), time.Now())
			if err != nil {
				a.log.Warn("reading the use of addresses", "error", err)
				return
			}
			use = &fresh
		}
		s.capacity, s.free, s.cooling = doc.Capacity(), use.free(doc.Prefixes()), use.coolingIn(doc.Prefixes())
	}
	condition := s.condition()
	a.metrics.observeCondition(condition)
	a.condition.set(verdict{condition: condition, refused: a.refusal(time.Now())})
	a.see(condition)
}

// refusalShown is how long a refusal stands on the Node: longer than the controller heeds it.
const refusalShown = 5 * time.Minute

// refusal of EC2 as it stands on the Node, "" when there was none lately.
func (a *Agent) refusal(now time.Time) string {
	if a.refused == nil || now.Sub(a.refused.At) > refusalShown {
		return ""
	}
	return a.refused.String()
}
