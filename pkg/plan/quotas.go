// SPDX-License-Identifier: Apache-2.0

package plan

import "fmt"

// Limit is a quota with what the plan takes of it.
type Limit struct {
	Name  string `json:"name"`
	Limit int    `json:"limit"`
	// Assumed: AWS's default, for want of the right to read the account's quota.
	Assumed bool `json:"assumed,omitempty"`
	// Used now, -1 where that is not known. After is what the plan makes of it.
	Used  int `json:"used"`
	After int `json:"after"`
}

// quotas that a pod network can meet.
func (p *planner) quotas() {
	if p.facts.VPC == nil {
		return
	}
	enis := p.limit("network interfaces in the Region", p.facts.Quotas.ENIs, p.moreENIs)
	p.judgeQuota(enis, ReasonENIQuota, "EC2 refuses further ENIs: nodes are not launched, or pods on them get no addresses",
		`ask for more: Service Quotas, Amazon VPC, "Network interfaces per Region" (L-DF5E4CA3)`)
	blocks := p.limit("IPv4 CIDR blocks of the VPC", p.facts.Quotas.BlocksPerVPC, p.newBlocks)
	p.judgeQuota(blocks, ReasonCIDRQuota, "EC2 does not associate the blocks that the pod subnets need",
		`ask for more: Service Quotas, Amazon VPC, "IPv4 CIDR blocks per VPC" (L-83CA0A9D); 50 can be had`)
}

func (p *planner) limit(name string, q Quota, more int) Limit {
	l := Limit{Name: name, Limit: q.Limit, Assumed: q.Assumed, Used: q.Used, After: q.Used + more}
	if q.Used < 0 {
		l.After = more
	}
	p.report.Quotas = append(p.report.Quotas, l)
	return l
}

// nearly is the share of a quota, in percent, from which somebody should know.
const nearly = 90

func (p *planner) judgeQuota(l Limit, reason, why, fix string) {
	assumed := ""
	if l.Assumed {
		assumed = " (AWS's default: the account's could not be read)"
	}
	switch {
	case l.Limit <= 0:
	case l.After > l.Limit:
		severity := Harm
		if l.Assumed {
			severity = Warning
		}
		p.found.add(severity, reason, fmt.Sprintf("%s: %d would be needed, and the quota is %d%s", l.Name, l.After, l.Limit, assumed), why, fix)
	case 100*l.After >= nearly*l.Limit:
		p.found.add(Info, reason, fmt.Sprintf("%s: %d would be needed of a quota of %d%s", l.Name, l.After, l.Limit, assumed), "what else grows in the account meets the quota soon", fix)
	}
}
