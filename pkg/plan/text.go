// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Print the report for people; maps are as wide as the drawing allows.
func (r Report) Print(w io.Writer, drawing podnetwork.Drawing) {
	fmt.Fprintf(w, "Plan for PodNetwork %s (from %s)%s\n", r.PodNetwork, r.From, r.where())
	fmt.Fprintf(w, "%s\n", r.Verdict())
	r.printFindings(w)
	r.printPools(w)
	r.printZones(w)
	r.printMaps(w, drawing)
	r.printQuotas(w)
	if len(r.Unread) > 0 {
		fmt.Fprint(w, "\nNOT READ, and so not compared:\n")
		for _, u := range r.Unread {
			fmt.Fprintf(w, "  %s: %s\n", u.What, u.Why)
		}
	}
}

func (r Report) where() string {
	text := ""
	for _, part := range []string{r.Cluster, r.ClusterName, r.Region, r.VPC} {
		if part != "" {
			text += ", " + part
		}
	}
	return text
}

// Verdict in a sentence.
func (r Report) Verdict() string {
	counts := lo.CountValuesBy(r.Findings, func(f Finding) Severity { return f.Severity })
	switch {
	case r.Harm:
		return fmt.Sprintf("Do not apply it as it is: %s would do harm; %s.", counted(counts[Harm], "finding"), counted(counts[Warning], "warning"))
	case len(r.Unread) > 0:
		return fmt.Sprintf("Nothing that was read speaks against it; %s. Not everything could be read.", counted(counts[Warning], "warning"))
	}
	return fmt.Sprintf("Nothing speaks against it; %s.", counted(counts[Warning], "warning"))
}

func (r Report) printFindings(w io.Writer) {
	for _, f := range r.Findings {
		fmt.Fprintf(w, "\n%-8s%s: %s\n        why: %s\n", strings.ToUpper(string(f.Severity)), f.Reason, f.What, f.Why)
		if f.Fix != "" {
			fmt.Fprintf(w, "        fix: %s\n", f.Fix)
		}
	}
}

// typesShown of a pool, besides those that its nodes are of.
const typesShown = 6

// Title of a pool.
func (p Pool) Title() string {
	if p.Name == "" {
		return "Nodes that Karpenter does not own, as though it had launched them: " + counted(p.Nodes, "node") + ", " + counted(p.Pods, "pod")
	}
	return fmt.Sprintf("NodePool %s (EC2NodeClass %s): %s, %s; up to %d replaced at once", p.Name, p.NodeClass, counted(p.Nodes, "node"), counted(p.Pods, "pod"), p.AtOnce)
}

// Worth showing: the types that nodes are of, then those that lose pods, then the cheapest for a pod.
func (p Pool) worthShowing() []PoolType {
	var shown []PoolType
	rest := slices.Clone(p.InstanceTypes)
	move := func(most int, wanted func(PoolType) bool, order func(a, b PoolType) int) {
		slices.SortStableFunc(rest, order)
		var kept []PoolType
		for _, t := range rest {
			if wanted(t) && most > 0 {
				shown = append(shown, t)
				most--
			} else {
				kept = append(kept, t)
			}
		}
		rest = kept
	}
	move(len(rest), func(t PoolType) bool { return t.Nodes > 0 }, func(a, b PoolType) int { return cmp.Or(cmp.Compare(b.Nodes, a.Nodes), cmp.Compare(a.Name, b.Name)) })
	move(typesShown/2, func(t PoolType) bool { return t.After < t.Now }, func(a, b PoolType) int {
		return cmp.Or(cmp.Compare(b.Now-b.After, a.Now-a.After), cmp.Compare(a.Name, b.Name))
	})
	move(typesShown/2, func(t PoolType) bool { return t.After >= t.Now && t.After > 0 }, func(a, b PoolType) int {
		return cmp.Or(cmp.Compare(a.USDPerPodAfter, b.USDPerPodAfter), cmp.Compare(b.After, a.After), cmp.Compare(a.Name, b.Name))
	})
	return shown
}

func (r Report) printPools(w io.Writer) {
	for _, pool := range r.NodePools {
		shown := pool.worthShowing()
		fmt.Fprintf(w, "\n%s\n", pool.Title())
		if len(shown) == 0 {
			fmt.Fprintln(w, "  no instance type is known that it could launch")
			continue
		}
		cli.Table(w, "  INSTANCE TYPE\tNODES\tMAX-PODS NOW\tAFTER\tA NODE TAKES\tUSD A POD AND MONTH NOW\tAFTER", func(row func(string, ...any)) {
			for _, t := range shown {
				row("  %s\t%d\t%d\t%s\t%s\t%s\t%s", t.Name, t.Nodes, t.Now, t.Offer(), t.Takes(), usd(t.USDPerPodNow), usd(t.USDPerPodAfter))
			}
		})
		if n := len(pool.InstanceTypes) - len(shown); n > 0 {
			fmt.Fprintf(w, "  and %s (-o json and -o html list all)\n", counted(n, "instance type"))
		}
	}
	if r.PricesFrom != "" && len(r.NodePools) > 0 {
		fmt.Fprintf(w, "Prices: %s; for a pod of a node that is full.\n", r.PricesFrom)
	}
}

// Offer is max-pods after, or that the type is not offered.
func (t PoolType) Offer() string {
	if t.After == 0 {
		return "not offered"
	}
	return strconv.Itoa(t.After)
}

// Takes is what a node takes of its pod subnet at the most.
func (t PoolType) Takes() string {
	switch {
	case t.After == 0:
		return "-"
	case t.Prefixes > 0:
		return fmt.Sprintf("%d /28", t.Prefixes)
	}
	return fmt.Sprintf("%d addresses", t.Addresses)
}

func usd(amount float64) string {
	if amount == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", amount)
}

func (r Report) printZones(w io.Writer) {
	if len(r.Zones) == 0 {
		return
	}
	fmt.Fprintln(w, "\nWhat today's nodes take of the pod subnets at the most, and what these have")
	cli.Table(w, "  ZONE\tNODES\tPODS\t/28 NEEDED\tTO REPLACE\tFREE\tADDRESSES NEEDED\tTO REPLACE\tFREE\tRESULT", func(row func(string, ...any)) {
		for _, z := range r.Zones {
			if z.Unknown {
				row("  %s\t%d\t%d\t%d\t%d\t?\t%d\t%d\t?\t%s", lo.CoalesceOrEmpty(z.Zone, "(none)"), z.Nodes, z.Pods, z.Need.Prefixes, z.Replacement.Prefixes, z.Need.Addresses, z.Replacement.Addresses, z.Result())
				continue
			}
			row("  %s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s", lo.CoalesceOrEmpty(z.Zone, "(none)"), z.Nodes, z.Pods, z.Need.Prefixes, z.Replacement.Prefixes, z.Free.Prefixes,
				z.Need.Addresses, z.Replacement.Addresses, z.Free.Addresses, z.Result())
		}
	})
	fmt.Fprintln(w, "To replace: besides, were all nodes that the disruption budgets let be replaced at once in that zone.")
	if r.PendingPods > 0 {
		fmt.Fprintf(w, "Not counted: %s without a node.\n", counted(r.PendingPods, "pod"))
	}
}

// Result in words.
func (z Zone) Result() string {
	switch {
	case z.Unknown:
		return "the pod subnets could not be read"
	case z.Free == Amount{}:
		return "no pod subnet"
	case z.Without > 0:
		return counted(z.Without, "node") + " without room"
	case z.ReplacementWithout > 0:
		return counted(z.ReplacementWithout, "replacement") + " without room"
	case z.Singles > 0:
		return fmt.Sprintf("%s with single addresses in place of %d", counted(z.SinglesNodes, "node"), z.Singles)
	case z.ReplacementSingles > 0:
		return counted(z.ReplacementSingles, "replacement") + " with single addresses"
	case z.More == 0 && z.MoreSingles > 0:
		return "room for " + counted(z.MoreSingles, "more node") + ", with single addresses"
	}
	return "room for " + counted(z.More, "more node")
}

// Title of a subnet.
func (s Subnet) Title() string {
	title := lo.CoalesceOrEmpty(s.ID, "new") + "  " + s.CIDR + "  " + s.Zone
	if s.ENIConfig != "" {
		title += "  ENIConfig " + s.ENIConfig
	}
	if s.Planned {
		title += "  (planned)"
	}
	return title + ": for " + s.Role
}

func (r Report) printMaps(w io.Writer, drawing podnetwork.Drawing) {
	drawn := false
	for _, s := range r.Subnets {
		cidr, err := netip.ParsePrefix(s.CIDR)
		if err != nil || s.Blocks == "" {
			continue
		}
		drawn = true
		text, bits := drawing.Map(cidr, blockMap(s.Blocks))
		fmt.Fprintf(w, "\n%s; %d of %d /28 and %d addresses are free; a cell is a /%d\n%s", s.Title(), s.FreePrefixes, len(s.Blocks), s.FreeAddresses, bits, text)
	}
	if drawn {
		fmt.Fprintf(w, "\n%s", podnetwork.Legend)
	}
}

func blockMap(text string) podnetwork.BlockMap {
	blocks := make(podnetwork.BlockMap, len(text))
	for i := range text {
		blocks[i] = podnetwork.Block(text[i])
	}
	return blocks
}

func (r Report) printQuotas(w io.Writer) {
	if len(r.Quotas) == 0 {
		return
	}
	fmt.Fprintln(w)
	cli.Table(w, "QUOTA\tLIMIT\tUSED\tAFTER", func(row func(string, ...any)) {
		for _, q := range r.Quotas {
			row("%s\t%s\t%s\t%d", q.Name, q.Bound(), q.Use(), q.After)
		}
	})
}

// Bound is the limit, and that it is assumed.
func (l Limit) Bound() string {
	return strconv.Itoa(l.Limit) + lo.Ternary(l.Assumed, " (AWS's default)", "")
}

// Use is what is used, where it is known.
func (l Limit) Use() string { return lo.Ternary(l.Used < 0, "?", strconv.Itoa(l.Used)) }
