// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// figures of a soak.
type figures struct {
	pods, nodes                      map[string]bool // ever seen with an address; ever launched
	mostPods, mostNodes              int             // at one time
	looks, blind, explained, outside int
	machines, calms, rounds          int
	slowest, total                   time.Duration // recovery
	slowestRound                     int

	mu            sync.Mutex
	done, leftOut map[Kind]int
}

func newFigures() *figures {
	return &figures{pods: map[string]bool{}, nodes: map[string]bool{}, done: map[Kind]int{}, leftOut: map[Kind]int{}}
}

func (f *figures) see(o Observation) {
	f.looks++
	if !o.Fresh {
		f.blind++
	}
	f.machines += len(o.Machines)
	running := 0
	for i := range o.Pods {
		if o.Pods[i].Status.PodIP != "" {
			f.pods[string(o.Pods[i].UID)] = true
			running++
		}
	}
	f.mostPods = max(f.mostPods, running)
	living := 0
	for _, i := range o.Account.Instances {
		if _, ours := i.Tags[karpenter.NodePoolLabelKey]; ours {
			f.nodes[i.ID] = true
			if i.State == "running" {
				living++
			}
		}
	}
	f.mostNodes = max(f.mostNodes, living)
}

func (f *figures) did(kind Kind, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.leftOut[kind]++
		return
	}
	f.done[kind]++
}

func (f *figures) recovered(round int, took time.Duration) {
	f.rounds++
	f.total += took
	if took > f.slowest {
		f.slowest, f.slowestRound = took, round
	}
}

func (f *figures) print(w io.Writer, seed uint64, took time.Duration, answered, failed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	row := func(what, format string, values ...any) {
		fmt.Fprintf(w, "  %-28s %s\n", what, fmt.Sprintf(format, values...))
	}
	faults := 0
	list := func(counts map[Kind]int) string {
		var parts []string
		for _, kind := range slices.Sorted(maps.Keys(counts)) {
			parts = append(parts, fmt.Sprintf("%s %d", kind, counts[kind]))
		}
		return strings.Join(parts, ", ")
	}
	load := map[Kind]int{}
	struck := map[Kind]int{}
	for kind, n := range f.done {
		if slices.Contains(faultKinds, kind) {
			struck[kind] = n
			faults += n
		} else {
			load[kind] = n
		}
	}
	row("seed", "%d", seed)
	row("time", "%s, %d rounds, %d times down to nothing", took.Round(time.Second), f.rounds, f.calms)
	row("pods started", "%d, at most %d at a time", len(f.pods), f.mostPods)
	row("nodes launched", "%d, at most %d at a time", len(f.nodes), f.mostNodes)
	row("load", "%s", list(load))
	row("faults", "%d: %s", faults, list(struck))
	row("left out (nothing to strike, or no API server)", "%s", list(f.leftOut))
	row("requests to pods", "%d answered, %d not (of pods that were ending or on broken nodes, or within %s)", answered, failed, network)
	row("requests to the internet", "%d", f.outside)
	row("looks", "%d, %d of them without an API server; %d invariants each; %d machines read", f.looks, f.blind, len(checks), f.machines)
	row("explanations asked for", "%d", f.explained)
	if f.rounds > 0 {
		row("recovery", "slowest %.0f s (round %d), mean %.0f s from the end of the faults until all pods run", f.slowest.Seconds(), f.slowestRound, f.total.Seconds()/float64(f.rounds))
	}
}
