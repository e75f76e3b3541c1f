// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// faultFlags are those of all commands of faults.
type faultFlags struct {
	sandbox  *sandbox.Options
	endpoint string
	output   string
}

func newFaultCommand(opts *sandbox.Options) *cobra.Command {
	flags := &faultFlags{sandbox: opts}
	command := &cobra.Command{
		Use: "fault", Short: "Let things go wrong: empty pools, full subnets, lost replies, dying instances, outages",
		Long: `Let things go wrong in a sandbox, on demand and as AWS does it: with its error codes, and in the protocol of each service.

Each fault has a seed, so that the same calls meet the same luck. The same is to be had over HTTP: see "Faults" in
pkg/sandbox/aws/README.md.`,
	}
	command.PersistentFlags().StringVar(&flags.endpoint, "endpoint", "", "URL of a simulator that runs alone (dovetail sandbox aws); default: the sandbox in --dir")
	command.PersistentFlags().StringVarP(&flags.output, "output", "o", "", "json")
	command.AddCommand(newFaultAddCommand(flags), newFaultListCommand(flags), newFaultClearCommand(flags))
	return command
}

// client speaks to the sandbox that is meant.
func (f *faultFlags) client() (aws.FaultsClient, error) {
	if f.output != "" && f.output != "json" {
		return aws.FaultsClient{}, fmt.Errorf("-o %s: the only other output is json", f.output)
	}
	if f.endpoint != "" {
		return aws.FaultsClient{HTTP: http.DefaultClient, URL: f.endpoint}, nil
	}
	s, err := sandbox.Open(f.sandbox.Dir)
	if err != nil {
		return aws.FaultsClient{}, err
	}
	return s.Faults(), nil
}

func newFaultListCommand(flags *faultFlags) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "Print the faults that were added, and how often each struck", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		client, err := flags.client()
		if err != nil {
			return err
		}
		list, err := client.List(cmd.Context())
		if err != nil {
			return err
		}
		if flags.output == "json" {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(list)
		}
		table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tKIND\tSTATE\tSTRUCK\tDESCRIPTION")
		for _, f := range list.Faults {
			state := "active"
			if f.Over {
				state = "over"
			}
			if f.Problem != "" {
				state = f.Problem
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", f.ID, f.Kind(), state, f.Struck, f.Description)
		}
		return table.Flush()
	}}
}

func newFaultClearCommand(flags *faultFlags) *cobra.Command {
	return &cobra.Command{Use: "clear [ID...]", Short: "End faults and forget them: these, or all", RunE: func(cmd *cobra.Command, ids []string) error {
		client, err := flags.client()
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return client.Clear(cmd.Context())
		}
		var errs []error
		for _, id := range ids {
			errs = append(errs, client.Remove(cmd.Context(), id))
		}
		return errors.Join(errs...)
	}}
}

// faultKind is a command that adds a fault.
type faultKind struct {
	use, short, example string
	args                cobra.PositionalArgs
	counted, lasting    bool                          // it has --times, it has --for
	random              bool                          // it has --seed
	flags               func(*cobra.Command)          // of its own
	fault               func(args []string) aws.Fault // is called after the flags were read
}

func newFaultAddCommand(flags *faultFlags) *cobra.Command {
	command := &cobra.Command{
		Use: "add", Short: "Let one thing go wrong",
		Long: `Let one thing go wrong.

An ACTION is a call of EC2 (CreateFleet), one of another service (ssm:GetParameter), or a pattern ('Describe*', 'iam:*', '*').`,
	}
	for _, kind := range faultKinds() {
		command.AddCommand(kind.command(flags))
	}
	return command
}

func (k faultKind) command(flags *faultFlags) *cobra.Command {
	var (
		times       int
		lasts       time.Duration
		seed        uint64
		description string
	)
	command := &cobra.Command{Use: k.use, Short: k.short, Example: k.example, Args: k.args, RunE: func(cmd *cobra.Command, args []string) error {
		if rate := cmd.Flag("rate"); rate != nil && rate.Changed && rate.Value.String() == "0" {
			return fmt.Errorf("--rate 0 strikes nothing: give a share of the calls, to 1")
		}
		client, err := flags.client()
		if err != nil {
			return err
		}
		f := k.fault(args)
		f.Times, f.For, f.Seed, f.Description = times, aws.Duration(lasts), seed, description
		added, err := client.Add(cmd.Context(), f)
		if err != nil {
			return err
		}
		if flags.output == "json" {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(added)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", added.ID, added.Description)
		return err
	}}
	if k.flags != nil {
		k.flags(command)
	}
	if k.counted {
		command.Flags().IntVar(&times, "times", 0, "strikes before it is over (default no limit)")
	}
	if k.random {
		command.Flags().Uint64Var(&seed, "seed", 0, "of what is random about it (default by the account's seed and the fault's number)")
	}
	if k.lasting {
		command.Flags().DurationVar(&lasts, "for", 0, "how long it lasts (default until it is cleared)")
	}
	command.Flags().StringVar(&description, "description", "", "in the list (default what the fault says of itself)")
	return command
}
