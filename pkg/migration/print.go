// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
)

const (
	// barWidth in characters.
	barWidth = 30
	// nodesShown of those at work or held up, and blocksShown of what is in the way.
	nodesShown, blocksShown = 10, 5
)

// notLookedAt is what is known of an object whose spec is newer than its status.
const notLookedAt = "not looked at yet: does the controller run?"

// Print for people.
func (p Progress) Print(w io.Writer) {
	if len(p.NodeMigrations)+len(p.PodNetworks) == 0 {
		fmt.Fprintln(w, "nothing moves: there is neither a PodNetwork nor a NodeMigration in this cluster")
	}
	for _, m := range p.NodeMigrations {
		m.print(w, p.Time)
	}
	for _, d := range p.PodNetworks {
		d.print(w)
	}
}

func (m Migration) print(w io.Writer, now time.Time) {
	fmt.Fprintf(w, "NodeMigration %s: %s\n  %s  %s\n", m.Name, m.state(), cli.Bar(int(m.Nodes.Done), int(m.Nodes.Total), barWidth), m.counts())
	for _, b := range m.Blocked[:min(len(m.Blocked), blocksShown)] {
		fmt.Fprintf(w, "  %s: %s\n", b.Reason, b.Message)
	}
	shown := 0
	for _, n := range m.NodeStatuses {
		working := n.Phase == v1alpha1.NodeDraining || n.Phase == v1alpha1.NodeSettling
		if shown == nodesShown || m.Ended() || !working && (n.Phase != v1alpha1.NodePending || n.Reason == "") {
			continue
		}
		shown++
		fmt.Fprintf(w, "  node %s: %s", n.Name, n.Phase)
		if n.Pods > 0 {
			fmt.Fprintf(w, ", %d pods to leave", n.Pods)
		}
		if n.Since != nil {
			fmt.Fprintf(w, ", for %s", span(now.Sub(n.Since.Time)))
		}
		if n.Reason != "" {
			fmt.Fprintf(w, ", %s", n.Reason)
		}
		fmt.Fprintln(w)
	}
}

// state in a few words.
func (m Migration) state() string {
	switch {
	case m.Stale:
		return notLookedAt
	case m.Phase == v1alpha1.MigrationComplete && m.StartedAt != nil && m.FinishedAt != nil:
		return fmt.Sprintf("%s, in %s", m.Phase, span(m.FinishedAt.Sub(m.StartedAt.Time)))
	case m.Phase == v1alpha1.MigrationComplete || m.Phase == v1alpha1.MigrationProgressing || m.Message == "":
		return string(m.Phase)
	case m.Phase == v1alpha1.MigrationStopped:
		return "Stopped: " + m.Message
	case slices.ContainsFunc(m.Blocked, func(b v1alpha1.MigrationBlock) bool { return b.Message == m.Message }):
		return string(m.Phase) // the blocks follow
	}
	return fmt.Sprintf("%s, %s: %s", m.Phase, m.Reason, m.Message)
}

func (m Migration) counts() string {
	text := fmt.Sprintf("%d of %d nodes", m.Nodes.Done, m.Nodes.Total)
	if m.Phase == v1alpha1.MigrationStopped {
		return text
	}
	if m.Nodes.Draining > 0 {
		text += fmt.Sprintf(", %d at work (at most %d)", m.Nodes.Draining, m.MaxUnavailable)
	}
	if m.Nodes.Pending > 0 {
		text += fmt.Sprintf(", %d to come", m.Nodes.Pending)
	}
	if m.Nodes.Refused > 0 {
		text += fmt.Sprintf(", %d refused", m.Nodes.Refused)
	}
	return text + m.Pace.String()
}

func (d Drift) print(w io.Writer) {
	fmt.Fprintf(w, "PodNetwork %s: %s\n", d.Name, d.state())
	if d.Nodes.Total > 0 {
		fmt.Fprintf(w, "  %s  %s\n", cli.Bar(int(d.Nodes.Current), int(d.Nodes.Total), barWidth), d.counts())
	}
	for _, b := range d.Blocked[:min(len(d.Blocked), blocksShown)] {
		fmt.Fprintf(w, "  %s: %s\n", cli.Some(b.Objects), b.Message)
	}
}

func (d Drift) state() string {
	switch {
	case d.Stale:
		return notLookedAt
	case d.Complete && d.Nodes.Total == 0:
		return "Karpenter has launched no node on it"
	case d.Complete:
		return "no node of Karpenter's is to be replaced"
	}
	return d.Message
}

func (d Drift) counts() string {
	text := fmt.Sprintf("%d of %d nodes are current", d.Nodes.Current, d.Nodes.Total)
	if d.Nodes.Outdated > 0 {
		text += fmt.Sprintf(", %d to replace", d.Nodes.Outdated)
	}
	return text + d.Pace.String()
}

// String is empty while no node is done.
func (p Pace) String() string {
	text := fmt.Sprintf("; %.1f nodes a minute", p.NodesPerMinute)
	switch {
	case p.NodesPerMinute == 0 && p.LeftSeconds == 0:
		return ""
	case p.NodesPerMinute == 0: // rounded
		text = "; less than one node in 10 minutes"
	}
	if p.Left > 0 {
		text += fmt.Sprintf(", about %s left", span(time.Duration(p.LeftSeconds)*time.Second))
	}
	return text
}

// span of time as people say it: to seconds below two minutes, to minutes below two hours.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	}
	return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
}
