// SPDX-License-Identifier: Apache-2.0

package overview

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/awslabs/operatorpkg/status"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// barWidth is the width of a bar in characters.
const barWidth = 16

// Print for people.
func (o Overview) Print(w io.Writer) {
	for i, n := range o.PodNetworks {
		if i > 0 {
			fmt.Fprintln(w)
		}
		n.print(w)
	}
	if len(o.Warnings) == 0 {
		return
	}
	fmt.Fprintln(w)
	cli.Table(w, "LAST WARNING\tOBJECT\tREASON\tMESSAGE", func(row func(string, ...any)) {
		for _, e := range o.Warnings {
			row("%s\t%s\t%s\t%s", e.Time.Format(time.TimeOnly), e.Object, e.Reason, strings.Join(strings.Fields(e.Message), " "))
		}
	})
}

func (n Network) print(w io.Writer) {
	addresses := "single addresses"
	if n.Prefixes {
		addresses = "/28 prefixes"
	}
	ready := "Ready"
	switch {
	case n.Stale:
		ready = "not looked at yet: does the controller run?"
	case n.Ready != "True":
		ready = "not Ready"
	}
	fmt.Fprintf(w, "PodNetwork %s: %s. %s, %s allocation, agent %s\n", n.Name, ready, addresses, strings.ToLower(string(n.Allocation)), n.Agent)
	fmt.Fprintf(w, "nodes %d: %d current, %d outdated\n", n.Nodes.Total, n.Nodes.Current, n.Nodes.Outdated)
	for _, c := range n.Conditions {
		if c.Type != status.ConditionReady && c.Status != "True" && c.Message != "" {
			fmt.Fprintf(w, "  %s is %s, %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	if len(n.Zones) == 0 {
		fmt.Fprintln(w, "  no zone can take nodes")
		return
	}
	fmt.Fprintln(w)
	cli.Table(w, "ZONE\tENICONFIG\tSUBNET\tCIDR\tFREE /28\t\tFOR NEW NODES\tFREE ADDRESSES\tFRAGMENTED\tNODES\tPODS", func(row func(string, ...any)) {
		for _, z := range n.Zones {
			blocks := blocksOf(z)
			row("%s\t%s\t%s\t%s\t%s\t%d of %d\t%d\t%d\t%d %%\t%d\t%d", z.Zone, z.ENIConfig, z.Subnet, z.CIDR, cli.Bar(int(z.FreePrefixes), blocks, barWidth), z.FreePrefixes, blocks,
				max(z.FreePrefixes-z.CommittedPrefixes, 0), z.FreeAddresses, z.Fragmentation, z.Nodes, z.Pods)
		}
	})
}

// blocksOf a pod subnet: how many aligned /28s it has, the two that AWS keeps addresses in included.
func blocksOf(z v1alpha1.ZoneStatus) int {
	cidr, err := netip.ParsePrefix(z.CIDR)
	if err != nil || cidr.Bits() > 28 {
		return 0
	}
	return 1 << (28 - cidr.Bits())
}
