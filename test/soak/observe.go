// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
	"github.com/dovetail-dev/dovetail/pkg/sandbox"
)

const (
	// interval between looks.
	interval = 3 * time.Second
	// patience with one source in a look.
	patience = 5 * time.Second
	// waysOut are tried in a look, besides those that failed in the one before.
	waysOut = 2
	// explanations are asked for in a look.
	explanations = 6
	// internetHost is one that the sandbox has.
	internetHost = "http://203.0.113.80/"
)

// observe looks at everything once. An error is one of the soak's own: what may fail, because something was made to fail, is left out.
func (s *soak) observe(ctx context.Context) (Observation, error) {
	o := Observation{At: time.Now(), Machines: map[string]Machine{}, Filled: map[string]time.Time{}}
	account, err := s.box.Account(ctx)
	if err != nil {
		return o, err
	}
	o.Account = account
	faults, err := s.box.Faults().List(ctx)
	if err != nil {
		return o, err
	}
	for _, fault := range faults.Faults {
		if fault.Over {
			continue
		}
		s.lastFault = o.At
		if fault.Subnet != nil {
			o.Filled[fault.Subnet.ID] = fault.Since
		}
	}
	o.Quiet = o.At.Sub(s.lastFault)
	s.readCluster(ctx, &o)
	s.readMachines(ctx, &o)
	o.At = time.Now() // as late as what is compared with it

	var ready []string
	for i := range o.Pods {
		if isReady(&o.Pods[i]) {
			ready = append(ready, o.Pods[i].Status.PodIP)
		}
	}
	o.Replies = s.requester.known()
	select {
	case err := <-s.requester.ended:
		return o, err
	default:
	}
	if err := s.requester.ask(ready); err != nil {
		return o, fmt.Errorf("telling whom to ask: %w", err)
	}
	s.tryWaysOut(ctx, &o)
	s.explain(ctx, &o)
	s.figures.see(o)
	s.before = o
	return o, nil
}

// readCluster leaves what it cannot read as it was.
func (s *soak) readCluster(ctx context.Context, o *Observation) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pods, nodes, claims, networks := &corev1.PodList{}, &corev1.NodeList{}, &karpenter.NodeClaimList{}, &v1alpha1.PodNetworkList{}
	for list, opts := range map[client.ObjectList][]client.ListOption{
		pods: {client.InNamespace(namespace), client.HasLabels{soakLabel}}, nodes: nil, claims: nil, networks: nil,
	} {
		if err := s.user.Kube.List(ctx, list, opts...); err != nil {
			o.Pods, o.Nodes, o.Claims, o.Zones = s.before.Pods, s.before.Nodes, s.before.Claims, s.before.Zones
			return
		}
	}
	o.Fresh, o.Pods, o.Nodes, o.Claims = true, pods.Items, nodes.Items, claims.Items
	slices.SortFunc(o.Pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	for i := range networks.Items {
		o.Zones = append(o.Zones, networks.Items[i].Status.Zones...)
	}
}

// readMachines that run Karpenter's nodes. One that ends meanwhile, or does not answer, is left out.
func (s *soak) readMachines(ctx context.Context, o *Observation) {
	w := newWorld(*o)
	for id, instance := range w.running {
		if _, ours := instance.Tags[karpenter.NodePoolLabelKey]; !ours {
			continue
		}
		out, err := s.on(ctx, sandbox.Target{Instance: id}, s.netprobe, "machine")
		if err != nil {
			s.unread[id] = err
			continue
		}
		var machine Machine
		if err := json.Unmarshal(out, &machine); err == nil {
			o.Machines[id] = machine
			delete(s.unread, id)
		}
	}
}

// tryWaysOut of two pods, in turn, and of those whose way failed before.
func (s *soak) tryWaysOut(ctx context.Context, o *Observation) {
	o.WaysOut = map[string]string{}
	w := newWorld(*o)
	var pods []*corev1.Pod
	for i := range o.Pods {
		if pod := &o.Pods[i]; isReady(pod) && w.nodes[pod.Spec.NodeName].ID != "" {
			pods = append(pods, pod)
		}
	}
	try := []*corev1.Pod{}
	for _, pod := range pods {
		if s.before.WaysOut[string(pod.UID)] != "" {
			try = append(try, pod)
		}
	}
	for range min(waysOut, len(pods)) {
		s.turn++
		try = append(try, pods[s.turn%len(pods)])
	}
	for _, pod := range try[:min(len(try), 3*waysOut)] {
		uid, instance := string(pod.UID), w.nodes[pod.Spec.NodeName].ID
		_, err := s.on(ctx, sandbox.Target{Instance: instance, PodUID: uid}, s.netprobe, "get", "-timeout", "2s", internetHost)
		o.WaysOut[uid] = ""
		if err != nil {
			o.WaysOut[uid] = err.Error()
		}
		s.figures.outside++
	}
}

// explain asks why pods wait, one of each Deployment and node.
func (s *soak) explain(ctx context.Context, o *Observation) {
	if !o.Fresh {
		return
	}
	o.Why = map[string]diagnosis.Answer{}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	asked := map[string]bool{}
	for _, pod := range waiting(*o) {
		alike := pod.Labels[soakLabel] + pod.Spec.NodeName
		if asked[alike] || len(asked) >= explanations {
			continue
		}
		asked[alike] = true
		situation, err := diagnosis.Read(ctx, s.user.Kube, pod.Namespace, pod.Name)
		if err == nil && situation.Pod.UID == pod.UID && situation.Pod.Status.PodIP == "" {
			o.Why[pod.Name] = diagnosis.Why(situation)
			s.figures.explained++
		}
	}
}

// on runs a command inside the sandbox.
func (s *soak) on(ctx context.Context, where sandbox.Target, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd, err := s.box.Command(ctx, where, args...)
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", filepath.Base(args[0]), errors.Join(err, ctx.Err()), strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
