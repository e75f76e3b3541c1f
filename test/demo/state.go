// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/test/scenario"
)

// state of the cluster that is compared.
type state struct {
	room  scenario.Room // of the node subnets
	fleet []scenario.Member
	// Of the subnets that pods live in.
	usable, freePrefixes int
	running, waiting     int
	// member is one of Karpenter's nodes, perPod what a pod costs on one that is full, in USD a month.
	member scenario.Member
	perPod float64
	// usdPerHour of the whole fleet, at the plan's prices.
	usdPerHour float64
}

// look reads the state; proposed is the file of a PodNetwork that is not applied yet, "" where it is.
func (d *demo) look(ctx context.Context, proposed string) (s state, err error) {
	if s.room, err = d.sandbox.NodeSubnets(ctx); err != nil {
		return s, err
	}
	if s.fleet, err = d.sandbox.Fleet(ctx); err != nil {
		return s, err
	}
	report, err := d.sandbox.Plan(ctx, proposed)
	if err != nil {
		return s, err
	}
	role := plan.RolePods
	if proposed != "" {
		role = plan.RoleNodes // that is where pods live until then
	}
	for _, subnet := range report.Subnets {
		if subnet.Role != role {
			continue
		}
		cidr, err := netip.ParsePrefix(subnet.CIDR)
		if err != nil {
			return s, fmt.Errorf("dovetail plan: subnet %s: %w", subnet.ID, err)
		}
		s.usable += scenario.Usable(cidr)
		s.freePrefixes += subnet.FreePrefixes
	}
	types := map[string]plan.PoolType{}
	for _, pool := range report.NodePools {
		for _, t := range pool.InstanceTypes {
			types[t.Name] = t
		}
	}
	for _, member := range s.fleet {
		t := types[member.Type]
		s.usdPerHour += t.USDPerHour
		if !member.Karpenter {
			continue
		}
		s.member, s.perPod = member, t.USDPerPodAfter
		if proposed != "" {
			s.perPod = t.USDPerPodNow
		}
	}
	for _, workload := range []scenario.Workload{d.web, d.shop} {
		running, err := d.sandbox.CountRunning(ctx, workload)
		if err != nil {
			return s, err
		}
		s.running += running
	}
	return s, nil
}

// perNode is the mean of the addresses of their own subnets that Karpenter's nodes take.
func (s state) perNode() float64 {
	sum, n := 0, 0
	for _, member := range s.fleet {
		if member.Karpenter {
			sum += member.Addresses
			n++
		}
	}
	return float64(sum) / float64(max(n, 1))
}

// eniAddresses are what an ENI of these instance types takes.
const eniAddresses = 15

// check that addresses are what is short.
func (s state) check() error {
	var problems []error
	for _, zone := range slices.Sorted(maps.Keys(s.room.Free)) {
		if free := s.room.Free[zone]; free >= eniAddresses {
			problems = append(problems, fmt.Errorf("the node subnet of %s still has %d free addresses", zone, free))
		}
	}
	return errors.Join(problems...)
}

// improves says what is not better than before.
func (s state) improves(before state) error {
	var problems []error
	object := func(worse bool, what string, now, then any) {
		if worse {
			problems = append(problems, fmt.Errorf("%s: %v after, %v before", what, now, then))
		}
	}
	object(s.usable < 30*before.usable, "addresses for pods", s.usable, before.usable)
	object(s.freePrefixes <= before.freePrefixes, "free /28s", s.freePrefixes, before.freePrefixes)
	object(s.member.MaxPods <= before.member.MaxPods, "pods that a node may have", s.member.MaxPods, before.member.MaxPods)
	object(s.perPod <= 0 || s.perPod >= before.perPod, "USD a month for a pod", s.perPod, before.perPod)
	object(s.perNode() != 1, "addresses of its own subnet that a node takes", s.perNode(), before.perNode())
	object(s.waiting > 0 || s.running <= before.running, "pods that run", s.running, before.running)
	return errors.Join(problems...)
}

func zones(free map[string]int) string {
	var words []string
	for _, zone := range slices.Sorted(maps.Keys(free)) {
		words = append(words, fmt.Sprintf("%s %d", zone, free[zone]))
	}
	return strings.Join(words, ", ")
}

func printComparison(out io.Writer, before, after state) {
	line := func(what, format string, cell func(state) []any) string {
		return row(what, fmt.Sprintf(format, cell(before)...), fmt.Sprintf(format, cell(after)...))
	}
	one := func(f func(state) any) func(state) []any { return func(s state) []any { return []any{f(s)} } }
	table(out, "Before and after", "WHAT\tBEFORE\tAFTER", []string{
		line("addresses of the subnets that pods live in", "%d", one(func(s state) any { return s.usable })),
		line("  free /28s", "%d", one(func(s state) any { return s.freePrefixes })),
		line("addresses of the node subnets that are taken", "%d of %d", func(s state) []any { return []any{s.room.Used, s.room.Usable} }),
		line("  by each of Karpenter's nodes", "%.0f", one(func(s state) any { return s.perNode() })),
		line("pods that run", "%d", one(func(s state) any { return s.running })),
		line("pods without an address", "%d", one(func(s state) any { return s.waiting })),
		line("pods that a node may have", "%d (%s)", func(s state) []any { return []any{s.member.MaxPods, s.member.Type} }),
		line("  cost of a pod on a full one, a month", "$%.2f", one(func(s state) any { return s.perPod })),
		line("nodes", "%d, $%.2f an hour", func(s state) []any { return []any{len(s.fleet), s.usdPerHour} }),
	})
}
