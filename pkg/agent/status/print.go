// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Cells of a prefix's map.
const (
	cellLeased    = '#'
	cellCooling   = '~'
	cellFree      = '·'
	cellReturning = '-'
)

const legend = "# leased  ~ cooling  · free  - free, being given back"

// widest prefix of which there is a map, in bits of the address that are free. EC2 gives four; what a node says may be anything.
const widest = 8

// Map has a character for each of the prefix's addresses, in their order.
func (p Prefix) Map() string {
	if p.Prefix.Addr().BitLen()-p.Prefix.Bits() > widest {
		return "no prefix of an ENI"
	}
	var cells strings.Builder
	for a := p.Prefix.Masked().Addr(); p.Prefix.Contains(a); a = a.Next() {
		switch {
		case slices.ContainsFunc(p.Leases, func(l Lease) bool { return l.Address == a }):
			cells.WriteRune(cellLeased)
		case slices.Contains(p.Cooling, a):
			cells.WriteRune(cellCooling)
		case p.Returning:
			cells.WriteRune(cellReturning)
		default:
			cells.WriteRune(cellFree)
		}
		if !a.Next().IsValid() {
			break
		}
	}
	return cells.String()
}

// Leases of the node, by address.
func (s Status) Leases() []Lease {
	all := slices.Clone(s.Strays)
	for _, e := range s.ENIs {
		for _, p := range e.Prefixes {
			all = append(all, p.Leases...)
		}
	}
	slices.SortFunc(all, func(a, b Lease) int { return a.Address.Compare(b.Address) })
	return all
}

// Print writes the status for people.
func Print(w io.Writer, s Status) error {
	var out bytes.Buffer // one write, and one error to look at
	s.head(&out)
	for _, e := range s.ENIs {
		e.print(&out)
	}
	if leases := s.Leases(); len(leases) > 0 {
		table(&out, "\nADDRESS\tPOD\tCONTAINER\tSINCE", leases, func(l Lease) string {
			return fmt.Sprintf("%s\t%s\t%.13s\t%s", l.Address, l.Pod, l.ContainerID, clock(l.Since))
		})
	}
	if len(s.Strays) > 0 {
		fmt.Fprintf(&out, "%d of these addresses are on no ENI: their pods have no network\n", len(s.Strays))
	}
	list(&out, "rules", s.Kernel.Rules)
	list(&out, "routes", s.Kernel.Routes)
	fmt.Fprintf(&out, "  and %d of pods, one each\n", len(s.Kernel.PodRoutes))
	switch {
	case len(s.Kernel.Differences) == 0 && len(s.Kernel.Rules) > 0:
		fmt.Fprintln(&out, "\nThe kernel is as it should be.")
	case len(s.Kernel.Differences) > 0:
		fmt.Fprintln(&out, "\nThe kernel is not as it should be:")
		for _, d := range s.Kernel.Differences {
			word := "missing"
			if d.Unwanted {
				word = "unwanted"
			}
			fmt.Fprintf(&out, "  %s %s: %s\n", word, d.Kind, d.Object)
		}
	}
	if len(s.Errors) > 0 {
		table(&out, "\nLAST ERROR\tTIMES\tREASON\tMESSAGE", s.Errors, func(e Error) string {
			return fmt.Sprintf("%s\t%d\t%s\t%s", clock(e.Last), e.Count, e.Reason, strings.Join(strings.Fields(e.Message), " "))
		})
	}
	for _, what := range s.Incomplete {
		fmt.Fprintf(&out, "not all could be read: %s\n", what)
	}
	_, err := out.WriteTo(w)
	return err
}

func (s Status) head(out *bytes.Buffer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "node\t%s\n", s.Node)
	fmt.Fprintf(t, "time\t%s\n", s.Time.UTC().Format(time.RFC3339))
	if s.Source != "" {
		fmt.Fprintf(t, "source\t%s\n", s.Source)
	}
	ready := s.Ready.Status
	if s.Ready.Reason != "" {
		ready += ", " + s.Ready.Reason + ": " + s.Ready.Message
	}
	fmt.Fprintf(t, "ready\t%s\n", ready)
	a := s.Addresses
	fmt.Fprintf(t, "addresses\t%d: %d leased, %d cooling, %d free, %d being given back; %d pods wait\n", a.Total, a.Leased, a.Cooling, a.Free, a.Returning, a.Waiting)
	if targets := s.Targets; targets != nil {
		fmt.Fprintf(t, "warm targets\tprefix %d, IP %d, minimum IP %d, ENI %d\n", targets.Prefix, targets.IP, targets.MinimumIP, targets.ENI)
	}
	if s.BackoffUntil != nil {
		fmt.Fprintf(t, "EC2\tis asked again at %s\n", clock(*s.BackoffUntil))
	}
	_ = t.Flush() // into a buffer
	if len(s.ENIs) > 0 {
		fmt.Fprintf(out, "\n%s\n", legend)
	}
}

func (e ENI) print(out *bytes.Buffer) {
	fmt.Fprintf(out, "\n%s  %s in %s, device %d, table %d, %s", e.ID, e.PrimaryAddress, e.Subnet, e.DeviceIndex, e.RouteTable, e.MAC)
	if e.AwaitsLink {
		fmt.Fprint(out, ", its link has not appeared")
	}
	fmt.Fprintln(out)
	var singles []Prefix
	for _, p := range e.Prefixes {
		if p.Prefix.IsSingleIP() {
			singles = append(singles, p)
			continue
		}
		fmt.Fprintf(out, "  %-18s  %s", p.Prefix, p.Map())
		if p.Returning {
			fmt.Fprint(out, "  being given back")
		}
		fmt.Fprintln(out)
	}
	for row := range slices.Chunk(singles, 16) { // as wide as a /28
		var cells strings.Builder
		for _, p := range row {
			cells.WriteString(p.Map())
		}
		fmt.Fprintf(out, "  %-18s  %s  single addresses from %s to %s\n", "", cells.String(), first(row), first(row[len(row)-1:]))
	}
}

func first(p []Prefix) netip.Addr { return p[0].Prefix.Addr() }

func list(out *bytes.Buffer, what string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s\n", what)
	for _, line := range lines {
		fmt.Fprintf(out, "  %s\n", line)
	}
}

func table[T any](out *bytes.Buffer, head string, rows []T, line func(T) string) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, head)
	for _, row := range rows {
		fmt.Fprintln(t, line(row))
	}
	_ = t.Flush() // into a buffer
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }
