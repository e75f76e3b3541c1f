// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// table prints a title, then rows of tab-separated cells below a header.
func table(out io.Writer, title, header string, rows []string) {
	fmt.Fprintf(out, "\n%s\n", title)
	writer := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range append([]string{header}, rows...) {
		fmt.Fprintf(writer, "  %s\n", row)
	}
	_ = writer.Flush() // an error of standard output has nowhere to go
	fmt.Fprintln(out)
}

func row(cells ...any) string {
	words := make([]string, len(cells))
	for i, cell := range cells {
		words[i] = fmt.Sprint(cell)
	}
	return strings.Join(words, "\t")
}

func printNodes(out io.Writer, nodes []scenario.Node) {
	var rows []string
	for _, n := range nodes {
		rows = append(rows, row(n.Name, n.Type, n.Zone, n.Address, 1+len(n.PodENIs), n.Prefixes(), n.MaxPods, n.UserDataMaxPods))
	}
	table(out, "Nodes", "NODE\tTYPE\tZONE\tADDRESS\tENIS\tPREFIXES\tMAX-PODS\tIN USER DATA", rows)
}

func printSubnets(out io.Writer, subnets []scenario.Subnet) {
	var rows []string
	for _, s := range subnets {
		rows = append(rows, row(s.Name, s.ID, s.Zone, s.CIDR, s.Pods))
	}
	table(out, "Pods per subnet", "NAME\tSUBNET\tZONE\tCIDR\tPODS", rows)
}

func printProbes(out io.Writer, probes []scenario.Probe) {
	var rows []string
	for _, p := range probes {
		saw := p.Saw
		if p.Err != nil {
			saw = p.Err.Error()
			saw = saw[strings.LastIndex(saw, "\n")+1:] // what the program inside said
		}
		rows = append(rows, row(mark(p.Check() == nil), p.Path, p.From, p.To, saw))
	}
	table(out, "Connections", " \tPATH\tFROM\tTO\tSEEN BY THE OTHER SIDE", rows)
}

func printLeaks(out io.Writer, left scenario.Leaks) {
	var rows []string
	for _, kind := range []struct {
		name string
		left []string
	}{{"nodes", left.Nodes}, {"node claims", left.NodeClaims}, {"instances", left.Instances}, {"ENIs", left.Interfaces}} {
		rows = append(rows, row(mark(len(kind.left) == 0), kind.name, len(kind.left), strings.Join(kind.left, " ")))
	}
	table(out, "Left over after scaling to zero", " \tKIND\tLEAKED\t", rows)
}

// number is a measured time; a limit of 0 is none.
type number struct {
	name        string
	took, limit time.Duration
}

// ok is false for what took too long, or was never reached.
func (n number) ok() bool { return n.took > 0 && (n.limit == 0 || n.took <= n.limit) }

func printNumbers(out io.Writer, numbers []number) {
	var rows []string
	for _, n := range numbers {
		limit := "-"
		if n.limit > 0 {
			limit = fmt.Sprintf("%.0fs", n.limit.Seconds())
		}
		rows = append(rows, row(mark(n.ok()), n.name, fmt.Sprintf("%.1fs", n.took.Seconds()), limit))
	}
	table(out, "Times", " \tWHAT\tTOOK\tLIMIT", rows)
}

func mark(ok bool) string {
	if ok {
		return "✓"
	}
	return "✗"
}
