// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/overview"
)

func newOverviewCommand() *cobra.Command {
	cluster, output := cli.NewCluster(), &cli.Output{}
	command := &cobra.Command{
		Use: "status", Short: "Show the pod networks: zones, ENIConfigs, free /28s, nodes, and what is wrong", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Client()
			if err != nil {
				return err
			}
			seen, err := overview.Read(cmd.Context(), c)
			if err != nil {
				return err
			}
			return output.Write(cmd.OutOrStdout(), seen, seen.Print)
		},
	}
	cluster.AddFlags(command.Flags())
	output.AddFlags(command.Flags())
	return command
}
