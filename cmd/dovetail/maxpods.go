// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// maxPodsOptions are the flags of `dovetail max-pods`.
type maxPodsOptions struct {
	instanceType   string
	all            bool
	output         string
	showMaxAllowed bool
	limit          int
	policy         podcapacity.Policy
}

func newMaxPodsCommand() *cobra.Command {
	opts := maxPodsOptions{}
	cmd := &cobra.Command{
		Use:   "max-pods",
		Short: "Print how many pods an instance type holds",
		Long: `Print how many pods an instance type holds, from its ENIs and addresses: the number that the controller puts into the
kubelet's configuration. Works offline, from figures of EC2 in this binary.

With --all, max_pods is what the addresses allow and recommended what the kubelet should get, both for the flags given.`,
		Example: `  dovetail max-pods --instance-type m5.large --custom-networking --prefix-delegation
  dovetail max-pods --all -o csv --custom-networking --prefix-delegation`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.complete(cmd.Flags().Changed("max-pods-limit")); err != nil {
				return err
			}
			cmd.SilenceUsage = true // the flags are right: what fails from here on is not explained by them
			if opts.all {
				return opts.printAll(cmd.OutOrStdout())
			}
			return opts.printOne(cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.instanceType, "instance-type", "", "EC2 instance type, such as m5.large")
	flags.BoolVar(&opts.all, "all", false, "print every instance type")
	flags.StringVarP(&opts.output, "output", "o", "", "csv or json (default: csv with --all, else only the number)")
	flags.BoolVar(&opts.policy.CustomNetworking, "custom-networking", false, "pods live on secondary ENIs only, as on a pod network")
	flags.BoolVar(&opts.policy.PrefixDelegation, "prefix-delegation", false, "each address slot of an ENI holds a /28")
	flags.BoolVar(&opts.showMaxAllowed, "show-max-allowed", false, "what the addresses allow, without the recommended cap (110 up to 30 vCPU, else 250)")
	flags.IntVar(&opts.policy.ReservedENIs, "reserved-enis", 0, "ENIs of each instance that pods do not get")
	flags.IntVar(&opts.limit, "max-pods-limit", 0, "upper bound, as spec.maxPods.limit of a PodNetwork")
	_ = cmd.RegisterFlagCompletionFunc("instance-type", cobra.FixedCompletions(instancetypes.Names(), cobra.ShellCompDirectiveNoFileComp)) // these are there
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"csv", "json"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.MarkFlagsOneRequired("instance-type", "all")
	cmd.MarkFlagsMutuallyExclusive("instance-type", "all")
	cmd.MarkFlagsMutuallyExclusive("show-max-allowed", "all")
	cmd.MarkFlagsMutuallyExclusive("show-max-allowed", "max-pods-limit")
	return cmd
}

// complete checks what the flags' types leave open.
func (o *maxPodsOptions) complete(limited bool) error {
	switch o.output {
	case "", "csv", "json":
	default:
		return fmt.Errorf("unknown output %q: choose csv or json", o.output)
	}
	if o.policy.ReservedENIs < 0 {
		return errors.New("--reserved-enis must not be negative")
	}
	if limited {
		if o.limit < 1 {
			return errors.New("--max-pods-limit must be at least 1")
		}
		o.policy.Limit = &o.limit
	}
	return nil
}

func (o *maxPodsOptions) printOne(out, warnings io.Writer) error {
	info, ok := instancetypes.Info(o.instanceType)
	if !ok {
		return unknownInstanceType(o.instanceType, instancetypes.Names())
	}
	geometry := podcapacity.GeometryOf(info)
	result := podcapacity.Compute(geometry, o.policy)
	if result.PodENIs == 0 && len(result.Warnings) > 0 {
		return fmt.Errorf("%s can hold no pods: %s", o.instanceType, result.Warnings[0])
	}
	for _, warning := range result.Warnings {
		fmt.Fprintf(warnings, "warning: %s: %s\n", o.instanceType, warning)
	}
	if o.output != "" {
		return write(out, o.output, []row{newRow(o.instanceType, geometry, result)})
	}
	pods := result.MaxPods
	if o.showMaxAllowed {
		pods = result.MaxAllowed
	}
	_, err := fmt.Fprintln(out, pods)
	return err
}

func (o *maxPodsOptions) printAll(out io.Writer) error {
	var rows []row
	for _, name := range instancetypes.Names() {
		info, _ := instancetypes.Info(name)
		geometry := podcapacity.GeometryOf(info)
		rows = append(rows, newRow(name, geometry, podcapacity.Compute(geometry, o.policy)))
	}
	return write(out, o.output, rows)
}

// row is one instance type of --all.
type row struct {
	InstanceType  string `json:"instance_type"`
	VCPUs         int    `json:"vcpus"`
	ENIs          int    `json:"enis"`
	IPsPerENI     int    `json:"ips_per_eni"`
	PrefixCapable bool   `json:"prefix_capable"`
	MaxPods       int    `json:"max_pods"`
	Recommended   int    `json:"recommended"`
}

func newRow(name string, geometry podcapacity.Geometry, result podcapacity.Result) row {
	return row{
		InstanceType: name, VCPUs: geometry.VCPUs, ENIs: geometry.ENIs, IPsPerENI: geometry.IPsPerENI, PrefixCapable: geometry.PrefixCapable,
		MaxPods: result.MaxAllowed, Recommended: result.MaxPods,
	}
}

func write(out io.Writer, format string, rows []row) error {
	if format == "json" {
		return cli.JSON(out, rows)
	}
	table := csv.NewWriter(out)
	records := [][]string{{"instance_type", "vcpus", "enis", "ips_per_eni", "prefix_capable", "max_pods", "recommended"}}
	for _, r := range rows {
		records = append(records, []string{
			r.InstanceType, strconv.Itoa(r.VCPUs), strconv.Itoa(r.ENIs), strconv.Itoa(r.IPsPerENI), strconv.FormatBool(r.PrefixCapable),
			strconv.Itoa(r.MaxPods), strconv.Itoa(r.Recommended),
		})
	}
	return table.WriteAll(records)
}
