// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// Report of a rehearsal.
type Report struct {
	// Change that was rehearsed: objects, as kind name.
	Change    []string  `json:"change"`
	Migration Migration `json:"migration"`
	Before    State     `json:"before"`
	After     State     `json:"after"`
	// Latency of EC2 on the stage: aws, or fast, whose times say nothing.
	Latency    string `json:"latency"`
	PricesFrom string `json:"pricesFrom"`
	// Notes of what the stage has not as the cluster has it.
	Notes []string `json:"notes,omitempty"`
}

// Successful tells whether the migration completes and leaves no more pods without a node than there were.
func (r Report) Successful() bool {
	return r.Migration.Complete && r.After.Waiting <= r.Before.Waiting
}

// Print the report for people.
func (r Report) Print(w io.Writer) {
	fmt.Fprintf(w, "Rehearsal of %s\n%s\n", strings.Join(r.Change, ", "), r.verdict())
	for _, why := range r.Migration.Why {
		fmt.Fprintf(w, "  %s\n", why)
	}
	fmt.Fprintf(w, "\nNodes launched: %d; ended: %d. Most pods without a node at a time, besides those that had none: %d\n", r.Migration.Launched, r.Migration.Ended, r.Migration.MostWaiting)
	fmt.Fprintln(w, r.honesty())
	r.printWaits(w)
	fmt.Fprintln(w)
	cli.Table(w, "\tBEFORE\tAFTER", func(row func(string, ...any)) {
		row("nodes\t%d\t%d", r.Before.Total, r.After.Total)
		row("pods that run\t%d\t%d", r.Before.Running, r.After.Running)
		row("pods without a node\t%d\t%d", r.Before.Waiting, r.After.Waiting)
		row("USD an hour\t%.2f\t%.2f", r.Before.USDPerHour, r.After.USDPerHour)
	})
	fmt.Fprintf(w, "(prices: %s)\n", r.PricesFrom)
	r.printNodes(w)
	r.printSubnets(w)
	r.printUnplaced(w)
	if len(r.Notes) > 0 {
		fmt.Fprintln(w, "\nNOT AS IN THE CLUSTER:")
		for _, note := range r.Notes {
			fmt.Fprintf(w, "  %s\n", note)
		}
	}
}

func (r Report) verdict() string {
	took := time.Duration(r.Migration.Seconds * float64(time.Second)).Round(time.Second)
	if r.Migration.Complete {
		return fmt.Sprintf("The migration was complete after %s.", took)
	}
	return fmt.Sprintf("The migration was NOT complete; the last thing happened after %s.", took)
}

// honesty about the time that it took.
func (r Report) honesty() string {
	if r.Latency != "aws" {
		return "Time: EC2 answers faster than AWS here (--latency " + r.Latency + "): the order of things is true, their duration is not."
	}
	return "Time: EC2 takes as long as AWS; images are not pulled, and pods are Ready at once and end at once. Add what yours take, once for each round of a budget."
}

func (r Report) printWaits(w io.Writer) {
	if len(r.Migration.Waited) == 0 {
		return
	}
	fmt.Fprintln(w)
	cli.Table(w, "WAITED\tFOR\tOBJECT\tWHY", func(row func(string, ...any)) {
		for _, wait := range r.Migration.Waited {
			row("%.0f s\t%s\t%s\t%s", wait.Seconds, wait.Reason, dash(wait.Object), wait.Message)
		}
	})
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func (r Report) printNodes(w io.Writer) {
	type line struct{ pool, instanceType, zone string }
	var lines []line
	counts := map[line][2]int{}
	for i, state := range []State{r.Before, r.After} {
		for _, n := range state.Nodes {
			l := line{n.NodePool, n.InstanceType, n.Zone}
			count, seen := counts[l]
			if !seen {
				lines = append(lines, l)
			}
			count[i] += n.Count
			counts[l] = count
		}
	}
	fmt.Fprintln(w)
	cli.Table(w, "NODEPOOL\tTYPE\tZONE\tBEFORE\tAFTER", func(row func(string, ...any)) {
		for _, l := range lines {
			row("%s\t%s\t%s\t%d\t%d", dash(l.pool), l.instanceType, l.zone, counts[l][0], counts[l][1])
		}
	})
}

func (r Report) printSubnets(w io.Writer) {
	before := map[string]SubnetUse{}
	for _, s := range r.Before.Subnets {
		before[s.CIDR] = s
	}
	fmt.Fprintln(w)
	cli.Table(w, "SUBNET\tZONE\tCIDR\tUSED BEFORE\tAFTER\tFREE AFTER\tSET ASIDE", func(row func(string, ...any)) {
		for _, s := range r.After.Subnets {
			id := s.ID
			if id == "" {
				id = "(new)"
			}
			row("%s\t%s\t%s\t%d\t%d\t%d\t%d", id, s.Zone, s.CIDR, before[s.CIDR].Used, s.Used, s.Free, s.SetAside)
		}
	})
}

func (r Report) printUnplaced(w io.Writer) {
	earlier := map[string]int{}
	for _, u := range r.Before.Unplaced {
		earlier[u.Workload] = u.Pods
	}
	for _, u := range r.After.Unplaced {
		fmt.Fprintf(w, "\nWITHOUT A NODE: %s, pods: %d (before: %d)\n", u.Workload, u.Pods, earlier[u.Workload])
		for _, f := range u.Findings {
			f.Print(w)
		}
	}
}
