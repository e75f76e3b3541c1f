// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"context"
	"fmt"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// assign takes EC2's answer for what is there; the instance metadata service lags behind.
func (a *Allocator) assign(ctx context.Context, plan pool.Plan) error {
	assigned, err := a.cloud.Assign(ctx, plan.ENI, plan.Unit, plan.Count)
	if err != nil {
		a.doubt(err)
		return err
	}
	e := &a.attached[a.index(plan.ENI)]
	e.Prefixes = append(e.Prefixes[:len(e.Prefixes):len(e.Prefixes)], assigned...)
	a.gave(supply{e.Subnet, plan.Unit})
	return nil
}

func (a *Allocator) create(ctx context.Context, d Demand, plan pool.Plan, place Place) error {
	var used []int
	for _, e := range a.attached {
		if e.NetworkCard == 0 {
			used = append(used, e.DeviceIndex)
		}
	}
	created, err := a.cloud.Create(ctx, eni.CreateParams{
		Subnet: place.Subnet, SecurityGroups: place.SecurityGroups, Unit: plan.Unit, Count: plan.Count, UsedIndexes: used, MaxENIs: d.Geometry.ENIs,
	})
	if created.ID == "" {
		a.doubt(err)
		if !eni.Classify(err).Refused() {
			a.sweepAt = time.Time{}
		}
		return err
	}
	if err != nil {
		a.log.Warn("the ENI will be left behind when the instance ends; trying again", "error", err)
		a.protectAt = a.now().Add(retryAfter)
	}
	a.log.Info("attached an ENI", "eni", created.ID, "subnet", created.Subnet, "deviceIndex", created.DeviceIndex, "prefixes", created.Prefixes)
	a.attached = append(a.attached, created)
	a.gave(supply{place.Subnet, plan.Unit})
	return nil
}

// doubt: unless EC2 refused, the request may have had its effect, and the same one again could double it.
func (a *Allocator) doubt(err error) {
	if !eni.Classify(err).Refused() {
		a.listed = false
	}
}

// refuse remembers that a subnet has too little, and tells whether something else may be tried at once: fewer, and when it
// has not even one, another place or unit.
func (a *Allocator) refuse(s supply, plan pool.Plan, err error) bool {
	if reason := eni.Classify(err); reason != eni.NoFreePrefix && reason != eni.SubnetFull {
		return false
	}
	a.tell(v1alpha1.PodSubnetRefusal{Subnet: s.subnet, Code: eni.Code(err), At: a.now()})
	if plan.Count > 1 {
		a.most = plan.Count / 2
		return true
	}
	a.most = 0
	r := a.refused[s]
	wait := refusedFor
	if s.unit == pool.Prefix { // single addresses serve meanwhile; without those, pods wait
		wait = min(refusedFor<<min(r.times, 10), refusedAtMost)
	}
	a.refused[s] = refusal{err: err, until: a.now().Add(a.jittered(wait)), times: r.times + 1}
	if p, ok := a.refused[supply{s.subnet, pool.Prefix}]; ok && s.unit == pool.SingleAddress && p.until.After(a.refused[s].until) {
		p.until = a.refused[s].until // when a subnet that had nothing has something again, it may be a /28
		a.refused[supply{s.subnet, pool.Prefix}] = p
	}
	switch {
	case r.times > 0:
	case s.unit == pool.Prefix:
		a.notice(eni.Classify(err), fmt.Sprintf("subnet %s has no free /28, single addresses are taken instead: %s", s.subnet, eni.Brief(err)))
	default:
		a.notice(eni.Classify(err), fmt.Sprintf("subnet %s has no free address: %s", s.subnet, eni.Brief(err)))
	}
	return true
}

func (a *Allocator) gave(s supply) { delete(a.refused, s) }
