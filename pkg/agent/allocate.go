// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/agent/allocator"
	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// step looks at everything once and does at most one thing with EC2. It says when the next step is due by itself, zero when
// it does not know.
func (a *Agent) step(ctx context.Context, asks int) (next time.Time, err error) {
	a.use = nil
	node, err := a.node(ctx)
	if err != nil {
		return next, err
	}
	s, err := a.settings(ctx, node)
	if err != nil {
		return next, err
	}
	a.targets = &s.targets
	if err := a.choose(ctx, s); err != nil {
		return next, err
	}
	pause := time.Now().Before(a.notBefore)
	if !pause {
		if err := a.source.Refresh(ctx); err != nil {
			return next, a.explain(node, s, err)
		}
	}
	if !a.source.Known() {
		return next, nil
	}
	if err := a.publish(ctx, s); err != nil {
		return next, err
	}
	a.readiness.published.Store(true)
	if pause {
		return next, nil
	}
	demand, err := a.demand(ctx, node, s, asks)
	if err != nil {
		return next, a.explain(node, s, err)
	}
	result, err := a.source.Step(ctx, demand)
	a.metrics.observe(result.Input)
	if err != nil {
		return next, a.explain(node, s, err)
	}
	if result.Again {
		return time.Now(), nil
	}
	if a.linkless != nil {
		return next, a.linkless
	}
	a.satisfied()
	return result.At, nil
}

// node is this one's object, as the cache has it.
func (a *Agent) node(ctx context.Context) (*corev1.Node, error) {
	node := &corev1.Node{}
	if err := a.kube.Get(ctx, client.ObjectKey{Name: a.opts.NodeName}, node); err != nil {
		return nil, fmt.Errorf("reading node %s: %w", a.opts.NodeName, err)
	}
	return node, nil
}

// choose the source of addresses. A node of static allocation whose launch could bring none allocates dynamically, unless its label
// says that the launch brought some.
func (a *Agent) choose(ctx context.Context, s settings) error {
	if a.source != nil {
		return nil
	}
	if s.static {
		static, err := allocator.Launched(ctx, a.metadata, a.opts.StateDir, s.labelled, a.log)
		if err != nil {
			return err
		}
		if static != nil {
			a.source, a.static = static, true
			return nil
		}
	}
	refused := func(r v1alpha1.PodSubnetRefusal) { a.refused = &r }
	a.source = allocator.New(allocator.Params{Cloud: a.enis, Log: a.log, Notice: a.notice, Refused: refused})
	return nil
}

// demand gathers what the node needs, and what it knows of the use of its addresses.
func (a *Agent) demand(ctx context.Context, node *corev1.Node, s settings, asks int) (allocator.Demand, error) {
	var geometry podcapacity.Geometry
	if !a.static { // without a right to ask EC2
		var err error
		if geometry, err = a.geometryOf(ctx, node); err != nil {
			return allocator.Demand{}, err
		}
	}
	use, err := a.usage(s.cooldown, time.Now())
	if err != nil {
		return allocator.Demand{}, err
	}
	waiting, err := a.waitingPods(ctx, use.leases)
	if err != nil {
		return allocator.Demand{}, err
	}
	a.use, a.waiting = &use, max(waiting, asks)
	return allocator.Demand{
		Geometry: geometry, MaxENIs: a.opts.MaxENIs, ReservedENIs: a.opts.ReservedENIs, Prefixes: s.prefixes, Targets: s.targets,
		MaxPods: int(node.Status.Capacity.Pods().Value()), Waiting: a.waiting,
		Leased: use.leased(), Cooling: use.cooling, UsageUnknown: !use.complete, Published: a.published,
		Place: func(ctx context.Context) (allocator.Place, error) { return a.place(ctx, node, s) },
	}, nil
}

// place of new ENIs is what the node's ENIConfig says now.
func (a *Agent) place(ctx context.Context, node *corev1.Node, s settings) (allocator.Place, error) {
	config, err := a.eniConfig(ctx, node, s.nodeLabel)
	if err != nil {
		return allocator.Place{}, err
	}
	place := allocator.Place{Subnet: config.Spec.Subnet, SecurityGroups: config.Spec.SecurityGroups}
	if len(place.SecurityGroups) == 0 {
		place.SecurityGroups = a.instance.SecurityGroups
	}
	return place, nil
}

// waitingPods counts pods that are bound to the node, need an address and hold none.
func (a *Agent) waitingPods(ctx context.Context, leases []lease.Lease) (int, error) {
	pods := &corev1.PodList{}
	if err := a.kube.List(ctx, pods); err != nil { // the cache holds this node's pods only
		return 0, fmt.Errorf("listing the node's pods: %w", err)
	}
	held := map[string]bool{}
	for _, l := range leases {
		held[l.Pod] = true
	}
	waiting := 0
	for _, pod := range pods.Items {
		if needsAddress(&pod) && !held[pod.Namespace+"/"+pod.Name] {
			waiting++
		}
	}
	return waiting, nil
}

func needsAddress(pod *corev1.Pod) bool {
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	return !pod.Spec.HostNetwork && pod.Status.PodIP == "" && pod.DeletionTimestamp == nil && !ended
}
