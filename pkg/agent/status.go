// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/agent/status"
)

// view is what the loop knew after its last step, for those who ask meanwhile. Nobody changes it.
type view struct {
	source    string
	targets   *status.Targets
	enis      []eni.ENI
	offered   []netip.Prefix
	linkless  []string // ids of ENIs
	condition corev1.NodeCondition
	waiting   int
	cooldown  time.Duration
	notBefore time.Time
}

// see makes the view.
func (a *Agent) see(condition corev1.NodeCondition) {
	v := &view{condition: condition, waiting: a.waiting, cooldown: a.cooldown(), notBefore: a.notBefore}
	for id := range a.linkSince {
		v.linkless = append(v.linkless, id)
	}
	if a.source != nil {
		v.source, v.enis = "Dynamic", a.source.ENIs()
		if a.static {
			v.source = "Static"
		} else if t := a.targets; t != nil {
			v.targets = &status.Targets{Prefix: t.Prefix, IP: t.IP, MinimumIP: t.MinimumIP, ENI: t.ENI}
		}
		for _, e := range a.source.Pool() {
			v.offered = append(v.offered, e.Prefixes...)
		}
	}
	a.view.Store(v)
}

// status answers whoever asks on the socket: from the view, and by reading leases and the kernel. The loop is not asked.
func (a *Agent) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a.statusAt(time.Now())) // whoever asked may have gone
}

func (a *Agent) statusAt(now time.Time) status.Status {
	v := a.view.Load()
	if v == nil {
		v = &view{condition: supply{}.condition(), cooldown: defaultSettings().cooldown}
	}
	s := status.Status{
		Version: status.Version, Time: now, Node: a.opts.NodeName, Source: v.source, Targets: v.targets,
		Ready:     status.Condition{Status: string(v.condition.Status), Reason: v.condition.Reason, Message: v.condition.Message},
		Addresses: status.Addresses{Waiting: v.waiting}, ENIs: []status.ENI{}, Errors: a.errors.list(),
	}
	incomplete := func(err error) {
		if err != nil {
			s.Incomplete = append(s.Incomplete, err.Error())
		}
	}
	if now.Before(v.notBefore) {
		s.BackoffUntil = &v.notBefore
	}
	use, err := a.usage(v.cooldown, now)
	incomplete(err)
	describe(&s, v, use)
	s.Kernel, err = a.kernelStatus()
	incomplete(err)
	return s
}

// describe ENIs, prefixes and who has which address.
func describe(s *status.Status, v *view, use usage) {
	leases := make([]status.Lease, 0, len(use.leases))
	for _, l := range use.leases {
		leases = append(leases, status.Lease{Address: l.Address, Pod: l.Pod, ContainerID: l.ContainerID, IfName: l.IfName, Since: l.Time})
	}
	slices.SortFunc(leases, func(a, b status.Lease) int { return a.Address.Compare(b.Address) })
	for _, e := range v.enis {
		described := status.ENI{
			ID: e.ID, MAC: e.MAC, DeviceIndex: e.DeviceIndex, RouteTable: pool.ENITable(e.DeviceIndex), Subnet: e.Subnet, PrimaryAddress: e.Primary,
			AwaitsLink: slices.Contains(v.linkless, e.ID), Prefixes: []status.Prefix{},
		}
		for _, prefix := range e.Prefixes {
			p := status.Prefix{Prefix: prefix, Returning: !slices.Contains(v.offered, prefix), Leases: []status.Lease{}, Cooling: []netip.Addr{}}
			leases = slices.DeleteFunc(leases, func(l status.Lease) bool {
				if within := prefix.Contains(l.Address); !within {
					return false
				}
				p.Leases = append(p.Leases, l)
				return true
			})
			for _, address := range use.cooling {
				leased := slices.ContainsFunc(p.Leases, func(l status.Lease) bool { return l.Address == address })
				if prefix.Contains(address) && !leased {
					p.Cooling = append(p.Cooling, address)
				}
			}
			described.Prefixes = append(described.Prefixes, p)
			s.Addresses.Count(p)
		}
		s.ENIs = append(s.ENIs, described)
	}
	s.Strays = leases
}

func (a *Agent) kernelStatus() (status.Kernel, error) {
	k := status.Kernel{Rules: []string{}, Routes: []string{}, PodRoutes: []string{}, Differences: []status.Difference{}}
	state, changes, err := a.kernel.Compare()
	for _, c := range changes {
		k.Differences = append(k.Differences, status.Difference{Kind: string(c.Kind), Object: c.Object, Unwanted: c.Removed})
	}
	if state == nil {
		return k, errors.Join(err, errors.New("the agent has not set up the kernel yet"))
	}
	rules, routes, pods, presentErr := datapath.Present(*state)
	k.Rules, k.Routes, k.PodRoutes = append(k.Rules, rules...), append(k.Routes, routes...), append(k.PodRoutes, pods...)
	return k, errors.Join(err, presentErr)
}
