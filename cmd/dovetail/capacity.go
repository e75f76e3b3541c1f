// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Where figures come from.
const (
	fromEC2    = "ec2"
	fromStatus = "status"
)

// capacityOptions are the flags of `dovetail capacity`.
type capacityOptions struct {
	network string // "" for all
	source  string // "" to choose
	showMap bool
}

func newCapacityCommand() *cobra.Command {
	opts, cluster, output := capacityOptions{}, cli.NewCluster(), &cli.Output{}
	cmd := &cobra.Command{
		Use:   "capacity [POD_NETWORK]",
		Short: "Print what the pod subnets have for further nodes",
		Long: `Print what the pod subnets of PodNetworks have for further nodes: free /28 blocks and addresses, and what of them is set aside
for nodes that do not hold it yet.

With AWS credentials the subnets are read from EC2 now, by ec2:DescribeSubnets, ec2:DescribeNetworkInterfaces and
ec2:GetSubnetCidrReservations. Without, the figures are those that the controller last wrote into the status of the PodNetworks.`,
		Example: `  dovetail capacity
  dovetail capacity default --map`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: cli.CompletePodNetworks,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				opts.network = args[0]
			}
			if err := opts.check(); err != nil {
				return err
			}
			c, err := cluster.Client()
			if err != nil {
				return err
			}
			found, err := readCapacity(cmd.Context(), c, opts, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			drawing := podnetwork.Drawing{Width: widthOf(cmd.OutOrStdout())}
			return output.Write(cmd.OutOrStdout(), found, func(w io.Writer) { found.print(w, drawing) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.source, "source", "", "ec2, or status: what the controller last wrote (default: ec2 with AWS credentials, else status)")
	flags.BoolVar(&opts.showMap, "map", false, "draw each pod subnet, block by block")
	cluster.AddFlags(flags)
	output.AddFlags(flags)
	_ = cmd.RegisterFlagCompletionFunc("source", cobra.FixedCompletions([]string{fromEC2, fromStatus}, cobra.ShellCompDirectiveNoFileComp)) // it is there
	return cmd
}

func (o *capacityOptions) check() error {
	switch {
	case o.source != "" && o.source != fromEC2 && o.source != fromStatus:
		return fmt.Errorf("--source %s: choose ec2 or status", o.source)
	case o.source == fromStatus && o.showMap:
		return fmt.Errorf("--map needs --source ec2: the status of a PodNetwork has no map")
	}
	return nil
}

// capacities is the document of -o json.
type capacities struct {
	// Source of the figures: ec2 or status.
	Source      string            `json:"source"`
	PodNetworks []networkCapacity `json:"podNetworks"`
}

type networkCapacity struct {
	Name    string           `json:"name"`
	Ready   string           `json:"ready"`
	Reason  string           `json:"reason,omitempty"`
	Message string           `json:"message,omitempty"`
	Subnets []subnetCapacity `json:"subnets"`
}

type subnetCapacity struct {
	Zone      string `json:"zone"`
	ENIConfig string `json:"eniConfig"`
	Subnet    string `json:"subnet"`
	CIDR      string `json:"cidr"`
	// Missing: EC2 does not show the subnet.
	Missing            bool `json:"missing,omitempty"`
	FreePrefixes       int  `json:"freePrefixes"`
	FreeAddresses      int  `json:"freeAddresses"`
	Reserved           int  `json:"reserved"`
	CommittedPrefixes  int  `json:"committedPrefixes"`
	CommittedAddresses int  `json:"committedAddresses"`
	Fragmentation      int  `json:"fragmentation"`
	// Blocks has a character for each /28, in the order of addresses: see podnetwork.Block.
	Blocks string `json:"blocks,omitempty"`

	snapshot *podnetwork.Snapshot
}

func (c capacities) print(w io.Writer, drawing podnetwork.Drawing) {
	const headings = "POD NETWORK\tZONE\tENICONFIG\tSUBNET\tCIDR\tFREE /28\tSET ASIDE\tFREE ADDRESSES\tSET ASIDE\tFRAGMENTATION"
	cli.Table(w, headings, func(row func(string, ...any)) {
		for _, network := range c.PodNetworks {
			for _, s := range network.Subnets {
				if s.Missing {
					row("%s\t%s\t%s\t%s\tEC2 does not show it", network.Name, s.Zone, s.ENIConfig, s.Subnet)
					continue
				}
				row("%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d%%", network.Name, s.Zone, s.ENIConfig, s.Subnet,
					s.CIDR, s.FreePrefixes, s.CommittedPrefixes, s.FreeAddresses, s.CommittedAddresses, s.Fragmentation)
			}
		}
	})
	for _, network := range c.PodNetworks {
		if network.Reason != "" {
			fmt.Fprintf(w, "\nPodNetwork %s is not Ready: %s: %s\n", network.Name, network.Reason, network.Message)
		}
	}
	c.printMaps(w, drawing)
}

// printMaps of subnets that have one, each once.
func (c capacities) printMaps(out io.Writer, drawing podnetwork.Drawing) {
	drawn := map[string]bool{}
	for _, network := range c.PodNetworks {
		for _, s := range network.Subnets {
			if s.Blocks == "" || drawn[s.Subnet] {
				continue
			}
			drawn[s.Subnet] = true
			text, bits := drawing.Map(s.snapshot.CIDR, s.snapshot.Blocks)
			fmt.Fprintf(out, "\n%s  %s  %s: %d of %d /28 are free; a cell is a /%d\n%s", s.Subnet, s.CIDR, s.Zone, s.FreePrefixes, len(s.snapshot.Blocks), bits, text)
		}
	}
	if len(drawn) > 0 {
		fmt.Fprintf(out, "\n%s", podnetwork.Legend)
	}
}

// widthOf the terminal, 0 where the output is none.
func widthOf(out io.Writer) int {
	columns, _ := sizeOf(out)
	return columns
}

// sizeOf the terminal, 0 where the output is none.
func sizeOf(out io.Writer) (columns, rows int) {
	file, ok := out.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}
