// SPDX-License-Identifier: Apache-2.0

// Package allocator keeps a node's ENIs and their addresses at what its pods and its targets ask for. What to do is decided
// in package pool; here it is done with EC2, one operation a step, so that a reply that is lost, a limit that somebody else
// has used up, a subnet that is full and an agent that is killed at any moment neither double anything nor leave anything
// behind.
package allocator

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

const (
	// Settle is how long a surplus has to last before anything is given back; half as much is added at random, because
	// the nodes of a cluster shrink together.
	Settle = 30 * time.Second
	// Grace is between the end of an address's publication and its return. A plugin that has read the pool before takes
	// its lease in milliseconds; what it took is seen before the address goes.
	Grace = 10 * time.Second
	// refusedFor is how long a subnet that had none is not asked again for prefixes, or for addresses; for prefixes it is
	// doubled each time up to refusedAtMost.
	refusedFor, refusedAtMost = 2 * time.Minute, time.Hour
	// sweepEvery and listEvery are mean times between looks at EC2 that nothing asked for.
	sweepEvery, listEvery = 15 * time.Minute, 10 * time.Minute
	// soon is when to look again at what EC2 has not finished.
	soon = 5 * time.Second
	// retryAfter is for what failed and hurts nobody yet.
	retryAfter = time.Minute
)

// Cloud is what the allocator does with EC2; eni.Client is one.
type Cloud interface {
	List(context.Context) ([]eni.ENI, error)
	Create(context.Context, eni.CreateParams) (eni.ENI, error)
	DeleteOnTermination(context.Context, eni.ENI) error
	Assign(ctx context.Context, id string, unit pool.Unit, count int) ([]netip.Prefix, error)
	Unassign(ctx context.Context, id string, prefixes []netip.Prefix) error
	Detach(context.Context, eni.ENI) error
	Sweep(context.Context) ([]string, error)
}

// Place is where new ENIs go.
type Place struct {
	Subnet         string
	SecurityGroups []string
}

// Demand is what the node needs now, and what it knows of the use of its addresses.
type Demand struct {
	Geometry podcapacity.Geometry
	// MaxENIs bounds all attached ENIs (MAX_ENI), 0: the instance type's limit. ReservedENIs are left to others.
	MaxENIs, ReservedENIs int
	// Prefixes: the pod network wants them.
	Prefixes bool
	Targets  pool.Targets
	MaxPods  int
	// Waiting pods have no address.
	Waiting int
	// Leased and Cooling addresses.
	Leased, Cooling []netip.Addr
	// UsageUnknown: Leased and Cooling may not be all there is. Then nothing is given back.
	UsageUnknown bool
	// Published is what plugins may take addresses from now.
	Published []netip.Prefix
	// Place of new ENIs.
	Place func(context.Context) (Place, error)
}

// Result of a step.
type Result struct {
	// Again: Pool has changed and has to be published, or there is more to do; step again at once.
	Again bool
	// At is when the next step is due by itself, whatever happens until then; zero: no time is known.
	At time.Time
	// Input of the decision, for metrics.
	Input pool.Input
}

// Notice tells people what the allocator has done about a refusal.
type Notice func(reason eni.Reason, message string)

// Allocator of one node. It keeps nothing that the next one would miss. It is not safe for concurrent use.
type Allocator struct {
	cloud  Cloud
	log    *slog.Logger
	notice Notice
	tell   func(v1alpha1.PodSubnetRefusal)
	now    func() time.Time
	rand   *rand.Rand

	attached  []eni.ENI // all that EC2 says, the primary included
	listed    bool
	listAt    time.Time
	sweepAt   time.Time
	protectAt time.Time

	refused map[supply]refusal
	most    int // see pool.Input

	surplusSince time.Time
	settle       time.Duration              // Settle with its jitter, of this surplus
	returning    map[netip.Prefix]time.Time // not published since; zero: published still
}

// supply is what a subnet may have run out of.
type supply struct {
	subnet string
	unit   pool.Unit
}

type refusal struct {
	err   error
	until time.Time
	times int
}

// Params of New. Now and Rand have defaults.
type Params struct {
	Cloud  Cloud
	Log    *slog.Logger
	Notice Notice
	// Refused hears of each request for addresses that a subnet could not serve, also of one for which fewer came then.
	Refused func(v1alpha1.PodSubnetRefusal)
	Now     func() time.Time
	Rand    *rand.Rand
}

// New returns an allocator that knows nothing yet: its first step lists and sweeps.
func New(p Params) *Allocator {
	a := &Allocator{
		cloud: p.Cloud, log: p.Log, notice: p.Notice, tell: p.Refused, now: p.Now, rand: p.Rand,
		refused: map[supply]refusal{}, returning: map[netip.Prefix]time.Time{},
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.rand == nil {
		a.rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) //nolint:gosec // jitter
	}
	if a.notice == nil {
		a.notice = func(eni.Reason, string) {}
	}
	if a.tell == nil {
		a.tell = func(v1alpha1.PodSubnetRefusal) {}
	}
	return a
}

// jittered is between d/2 and 3d/2.
func (a *Allocator) jittered(d time.Duration) time.Duration {
	return d/2 + time.Duration(a.rand.Int64N(int64(d)))
}

// Known tells whether EC2 has been listed since the start: before, Pool is empty for want of knowledge.
func (a *Allocator) Known() bool { return !a.listAt.IsZero() }

// Pool is what to publish: the pod ENIs, without what is being given back. Single addresses come last, so that pods leave
// them free where they can: each holds a slot in which a /28 fits.
func (a *Allocator) Pool() []eni.ENI {
	enis := a.ENIs()
	for i := range enis {
		enis[i].Prefixes = slices.DeleteFunc(slices.Clone(enis[i].Prefixes), func(p netip.Prefix) bool {
			_, gone := a.returning[p]
			return gone
		})
		slices.SortStableFunc(enis[i].Prefixes, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	}
	return enis
}

// ENIs are the pod ENIs with all that they have, for the kernel's rules.
func (a *Allocator) ENIs() []eni.ENI {
	return slices.DeleteFunc(slices.Clone(a.attached), func(e eni.ENI) bool { return !e.Ours || e.Detaching })
}

// Refresh reads EC2's truth where it is not known, or not looked at for long, and clears away what was left behind. Only
// the first can fail: without it nothing can be published either.
func (a *Allocator) Refresh(ctx context.Context) error {
	now := a.now()
	if !a.listed || !now.Before(a.listAt) {
		enis, err := a.cloud.List(ctx)
		switch {
		case err == nil:
			a.attached, a.listed = enis, true
			a.listAt = now.Add(a.jittered(listEvery))
			if slices.ContainsFunc(enis, func(e eni.ENI) bool { return e.Detaching }) {
				a.listAt = now.Add(soon)
			}
		case !a.listed:
			return err
		default:
			a.listAt = now.Add(retryAfter)
			a.log.Warn("looking at the instance's ENIs; what is known stays", "error", err)
		}
	}
	a.sweep(ctx)
	a.protect(ctx)
	return nil
}

func (a *Allocator) sweep(ctx context.Context) {
	if a.now().Before(a.sweepAt) {
		return
	}
	deleted, err := a.cloud.Sweep(ctx)
	a.sweepAt = a.now().Add(a.jittered(sweepEvery))
	if err != nil {
		a.sweepAt = a.now().Add(retryAfter)
		a.log.Warn("ENIs of this instance may be left behind; looking again", "error", err)
	} else if slices.ContainsFunc(a.attached, func(e eni.ENI) bool { return e.Detaching }) {
		a.sweepAt = a.now().Add(soon)
	}
	if len(deleted) > 0 {
		a.log.Info("deleted ENIs that were attached to nothing", "enis", deleted)
	}
}

// protect makes ENIs end with the instance that do not yet: only an attached one takes that.
func (a *Allocator) protect(ctx context.Context) {
	if a.now().Before(a.protectAt) {
		return
	}
	for i, e := range a.attached {
		if !e.Ours || e.Detaching || e.DeleteOnTermination {
			continue
		}
		if err := a.cloud.DeleteOnTermination(ctx, e); err != nil {
			a.log.Warn("the ENI will be left behind when the instance ends; trying again", "error", err)
			a.protectAt = a.now().Add(retryAfter)
			return
		}
		a.attached[i].DeleteOnTermination = true
	}
}

// Step does at most one thing with EC2. An error says why pods wait, or what EC2 refused; the caller waits before it steps
// again.
func (a *Allocator) Step(ctx context.Context, d Demand) (Result, error) {
	place, placeErr := d.Place(ctx)
	in := a.input(d, place.Subnet)
	result := Result{Input: in, At: a.nextLook()}
	plan := pool.Decide(in)
	if plan.Action == pool.Release {
		return a.release(ctx, d, plan, result)
	}
	a.surplusSince = time.Time{}
	if len(a.returning) > 0 { // nothing has to be fetched as long as it is still there
		clear(a.returning)
		result.Again = true
	}
	switch plan.Action {
	case pool.Satisfied:
		a.most = 0
		return result, nil
	case pool.Exhausted:
		// Warmth that cannot be had is no shortage as long as no pod waits.
		if d.Waiting == 0 && len(in.PodENIs) > 0 {
			return result, nil
		}
		return result, a.exhausted(d, plan)
	}
	a.log.Info("getting addresses", "action", plan.Action, "eni", plan.ENI, "count", plan.Count, "unit", plan.Unit, "reason", plan.Reason)
	var err error
	if plan.Action == pool.Assign {
		err = a.assign(ctx, plan)
	} else if placeErr != nil {
		err = placeErr
	} else {
		err = a.create(ctx, d, plan, place)
	}
	if err != nil {
		subnet := place.Subnet
		if plan.Action == pool.Assign {
			subnet = a.attached[a.index(plan.ENI)].Subnet
		}
		if a.refuse(supply{subnet, plan.Unit}, plan, err) {
			err = nil // another place, unit or count is tried at once
		}
	}
	result.Again = err == nil
	return result, err
}

// nextLook is when Refresh has something to do.
func (a *Allocator) nextLook() time.Time {
	at := a.listAt
	if a.sweepAt.Before(at) {
		at = a.sweepAt
	}
	return at
}

// exhausted names the refusal behind it, if there was one.
func (a *Allocator) exhausted(d Demand, plan pool.Plan) error {
	message := fmt.Sprintf("%d pods wait for an address: %s", d.Waiting, plan.Reason)
	reason := eni.Exhausted
	for s, r := range a.refused {
		if a.now().Before(r.until) && (reason == eni.Exhausted || s.unit == pool.SingleAddress) {
			reason = eni.Classify(r.err)
			message = fmt.Sprintf("%d pods wait for an address: %s: subnet %s: %s", d.Waiting, plan.Reason, s.subnet, eni.Brief(r.err))
		}
	}
	return &eni.Error{Reason: reason, Message: message}
}

func (a *Allocator) index(id string) int {
	return slices.IndexFunc(a.attached, func(e eni.ENI) bool { return e.ID == id })
}

// input gathers what the decision looks at.
func (a *Allocator) input(d Demand, subnet string) pool.Input {
	limit := d.Geometry.ENIs
	if d.MaxENIs > 0 {
		limit = min(limit, d.MaxENIs)
	}
	in := pool.Input{
		Geometry: pool.Geometry{ENIs: limit, AddressesPerENI: d.Geometry.IPsPerENI}, Targets: d.Targets,
		Prefixes: d.Prefixes && d.Geometry.PrefixCapable, MaxPods: d.MaxPods, ReservedENIs: d.ReservedENIs,
		Most: a.most, Waiting: d.Waiting, UsageUnknown: d.UsageUnknown,
	}
	in.CreateUnit = a.unit(subnet, in.Prefixes)
	for _, e := range a.attached {
		if !e.Ours || e.Detaching {
			if e.NetworkCard == 0 {
				in.OtherENIs++
			}
			continue
		}
		attached := pool.AttachedENI{ID: e.ID, DeviceIndex: e.DeviceIndex, Unit: a.unit(e.Subnet, in.Prefixes), Blocks: blocks(e.Prefixes, d)}
		for i, p := range e.Prefixes {
			_, attached.Blocks[i].Returning = a.returning[p]
		}
		in.PodENIs = append(in.PodENIs, attached)
	}
	return in
}

// blocks with their use.
func blocks(prefixes []netip.Prefix, d Demand) []pool.Block {
	all := make([]pool.Block, len(prefixes))
	for i, p := range prefixes {
		all[i] = pool.Block{Prefix: p, Leased: within(p, d.Leased), Cooling: within(p, d.Cooling)}
	}
	return all
}

func within(p netip.Prefix, addresses []netip.Addr) (n int) {
	for _, address := range addresses {
		if p.Contains(address) {
			n++
		}
	}
	return n
}

// unit in which a subnet gives now: prefixes where they are wanted and it had some lately, else addresses, else nothing.
func (a *Allocator) unit(subnet string, prefixes bool) pool.Unit {
	for _, unit := range []pool.Unit{pool.Prefix, pool.SingleAddress} {
		if unit == pool.Prefix && !prefixes {
			continue
		}
		if !a.now().Before(a.refused[supply{subnet, unit}].until) {
			return unit
		}
	}
	return 0
}
