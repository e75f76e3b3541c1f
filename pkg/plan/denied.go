// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"

	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

// denied says what whoever runs the plan was not permitted to read. What else could not be read is in Report.Unread alone.
func (p *planner) denied() {
	var actions, what []string
	for _, u := range p.facts.Unread {
		if u.Denied != "" {
			actions, what = append(actions, u.Denied), append(what, u.What)
		}
	}
	if len(actions) == 0 {
		return
	}
	slices.Sort(actions)
	p.found.add(Warning, ReasonPermissionMissing, "not permitted: "+strings.Join(slices.Compact(actions), ", "), "the plan knows nothing of "+strings.Join(lo.Uniq(what), ", ")+", and compares nothing with it",
		"allow these actions to whoever runs the plan (docs/plan.md has all that it takes)")
}

// seenBy says of what a finding is made; without it there is no telling whether it is one.
var seenBy = map[string]string{
	podnetwork.ReasonNoNodeClass:           "EC2NodeClasses",
	podnetwork.ReasonENIConfigMissing:      "ENIConfigs",
	podnetwork.ReasonSecurityGroupNotFound: "security groups",
	provision.ReasonRouteTableNotFound:     "route tables",
}

// blind tells of a reason for which nothing could be read.
func (p *planner) blind(reason string) bool {
	what, known := seenBy[reason]
	return known && p.couldNotRead(what)
}
