// SPDX-License-Identifier: Apache-2.0

package securitygroups

import (
	"time"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
)

// firstPause after a refusal, doubled with each up to the interval: a group that was made just now is unknown to parts of
// EC2 for seconds, and what a person has to mend is not mended by asking.
const firstPause = 15 * time.Second

// refusal of EC2 to give ENIs the groups of a target.
type refusal struct {
	until   time.Time
	pause   time.Duration
	reason  eni.Reason
	message string
}

// refusals by target.
type refusals map[string]refusal

// again is the refusal after this one.
func (r refusal) again(now time.Time, reason eni.Reason, message string) refusal {
	pause := min(max(2*r.pause, firstPause), interval)
	return refusal{until: now.Add(pause), pause: pause, reason: reason, message: message}
}
