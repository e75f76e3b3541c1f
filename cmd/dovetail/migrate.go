// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/migration"
)

func newMigrateCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "migrate", Short: "Move nodes to their pod network, and see how far that is",
		Long: `Move nodes to their pod network, and see how far that is.

Nodes that Karpenter owns it replaces itself, when their PodNetwork changes: status shows it. Others (managed node groups, self-managed) are
emptied by a NodeMigration: start makes one.`,
	}
	command.AddCommand(
		newMigrateStartCommand(), newMigrateStatusCommand(),
		newSteerCommand("pause", "Begin no further node and evict no further pod, until resume", "begins no further node and evicts no further pod", migration.Pause),
		newSteerCommand("resume", "Go on after pause", "goes on", migration.Resume),
		newSteerCommand("stop", "Undo: uncordon every node that the NodeMigration has cordoned and not ended", "stops, and its nodes take pods again", migration.Stop),
	)
	return command
}

// Values of --dry-run, as kubectl's.
const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

func newMigrateStartCommand() *cobra.Command {
	cluster, output := cli.NewCluster(), &cli.Output{}
	var params migration.Params
	var network, dryRun string
	command := &cobra.Command{
		Use: "start NAME --selector LABELS", Short: "Empty nodes that Karpenter does not own, a bounded number at a time",
		Long: `Make a NodeMigration: nodes with the labels are cordoned and drained, a bounded number at a time, within PodDisruptionBudgets.
It refuses while the pod network that the pods are to move to is not Ready.`,
		Example: `  dovetail migrate start old-group --selector eks.amazonaws.com/nodegroup=workers --max-unavailable 10%
  dovetail migrate start old-group -l eks.amazonaws.com/nodegroup=workers --dry-run=client`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			params.Name = args[0]
			wanted, err := migration.New(params)
			if err != nil {
				return err
			}
			switch dryRun {
			case dryRunClient:
				return output.Write(cmd.OutOrStdout(), manifest(wanted), manifest(wanted).print)
			case dryRunNone, dryRunServer:
			default:
				return fmt.Errorf("--dry-run %s: choose none, client or server", dryRun)
			}
			c, err := cluster.Client()
			if err != nil {
				return err
			}
			if err := migration.Ready(cmd.Context(), c, network); err != nil {
				return err
			}
			nodes, err := migration.Start(cmd.Context(), c, wanted, dryRun == dryRunServer)
			if err != nil {
				return err
			}
			if dryRun == dryRunServer {
				return output.Write(cmd.OutOrStdout(), manifest(wanted), manifest(wanted).print)
			}
			return output.Write(cmd.OutOrStdout(), wanted, func(w io.Writer) {
				fmt.Fprintf(w, "NodeMigration %s is created; %d nodes have its labels now\nkubectl dovetail migrate status %s --watch\n", wanted.Name, nodes, wanted.Name)
			})
		},
	}
	flags := command.Flags()
	flags.StringVarP(&params.Selector, "selector", "l", "", "labels of the old nodes, as for kubectl get nodes -l")
	flags.StringVar(&params.MaxUnavailable, "max-unavailable", "", "nodes at a time: a number, or a share of all such as 10% (default 1)")
	flags.BoolVar(&params.CordonAll, "cordon-all", false, "cordon every node at the start, so that pods move once")
	flags.BoolVar(&params.Terminate, "terminate", false, "end the instances of empty nodes (default: they stay cordoned)")
	flags.BoolVar(&params.EvictUncontrolled, "evict-uncontrolled", false, "evict pods that nobody makes again (default: their nodes wait)")
	flags.DurationVar(&params.EvictionTimeout, "eviction-timeout", 0, "pause when a node takes longer to become empty (default 15m)")
	flags.DurationVar(&params.PodsPendingTimeout, "pods-pending-timeout", 0, "pause when pods wait longer for a node (default 5m)")
	flags.StringVar(&network, "pod-network", "", "PodNetwork that has to be Ready (default: each)")
	flags.StringVar(&dryRun, "dry-run", dryRunNone, "none; client: print the manifest; server: print it as the API server would store it")
	flags.Lookup("dry-run").NoOptDefVal = dryRunClient
	_ = command.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]string{dryRunNone, dryRunClient, dryRunServer}, cobra.ShellCompDirectiveNoFileComp)) // it is there
	cluster.AddFlags(flags)
	output.AddFlags(flags)
	return command
}

// manifest of an object: without what a controller writes.
func manifest(m *v1alpha1.NodeMigration) document {
	encoded, err := json.Marshal(m)
	var fields document
	if err == nil {
		err = json.Unmarshal(encoded, &fields)
	}
	if err != nil {
		panic(fmt.Sprintf("encoding an object of our own: %v", err)) // cannot be: see its fields
	}
	delete(fields, "status")
	if metadata, ok := fields["metadata"].(map[string]any); ok {
		for _, field := range []string{"creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"} {
			delete(metadata, field)
		}
	}
	return fields
}

type document map[string]any

func (d document) print(w io.Writer) {
	encoded, err := yaml.Marshal(d)
	if err != nil {
		panic(fmt.Sprintf("encoding what was decoded: %v", err)) // cannot be
	}
	_, _ = w.Write(encoded) // errors are the writer's
}

// newSteerCommand changes what a NodeMigration does.
func newSteerCommand(verb, short, outcome string, do func(context.Context, client.Client, string) (*v1alpha1.NodeMigration, error)) *cobra.Command {
	cluster, output := cli.NewCluster(), &cli.Output{}
	command := &cobra.Command{
		Use: verb + " [NAME]", Short: short, Long: short + ".\n\nNAME may be left out where there is one NodeMigration.", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: cli.CompleteNodeMigrations,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Client()
			if err != nil {
				return err
			}
			m, err := do(cmd.Context(), c, strings.Join(args, ""))
			if err != nil {
				return err
			}
			return output.Write(cmd.OutOrStdout(), m, func(w io.Writer) { fmt.Fprintf(w, "NodeMigration %s %s\n", m.Name, outcome) })
		},
	}
	cluster.AddFlags(command.Flags())
	output.AddFlags(command.Flags())
	return command
}

func newMigrateStatusCommand() *cobra.Command {
	cluster, output := cli.NewCluster(), &cli.Output{}
	var watch bool
	command := &cobra.Command{
		Use: "status [NAME]", Short: "Show how far migrations are, how fast, and what blocks them",
		Long: `Show how far migrations are, how fast, and what blocks them: of each NodeMigration, or of the one of the name, and of the nodes that
Karpenter replaces because their PodNetwork has changed.

With --watch it goes on until all is done: on a terminal it draws over what it drew, elsewhere it writes a line for each change, and with -o
json a document.`,
		Example: `  dovetail migrate status --watch`,
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: cli.CompleteNodeMigrations,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Client()
			if err != nil {
				return err
			}
			name, out := strings.Join(args, ""), cmd.OutOrStdout()
			if !watch {
				p, err := migration.Read(cmd.Context(), c, name, time.Now())
				if err != nil {
					return err
				}
				return output.Write(out, p, p.Print)
			}
			show := (&migration.Log{W: cli.Plain(out)}).Show
			switch {
			case output.JSON():
				show = func(p migration.Progress) error { return output.Write(out, p, p.Print) }
			case widthOf(out) > 0:
				show = (&migration.Screen{W: out, Size: func() (int, int) { return sizeOf(out) }}).Show
			}
			return migration.Watch(cmd.Context(), c, name, show)
		},
	}
	command.Flags().BoolVarP(&watch, "watch", "w", false, "go on until all is done")
	cluster.AddFlags(command.Flags())
	output.AddFlags(command.Flags())
	return command
}
