// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
)

func newWhyCommand() *cobra.Command {
	cluster, output := cli.NewCluster(), &cli.Output{}
	command := &cobra.Command{
		Use: "why POD", Short: "Say why a pod has no node or no address", Args: cobra.ExactArgs(1), ValidArgsFunction: cli.CompletePods,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Client()
			if err != nil {
				return err
			}
			namespace, err := cluster.Namespace()
			if err != nil {
				return err
			}
			situation, err := diagnosis.Read(cmd.Context(), c, namespace, args[0])
			if err != nil {
				return err
			}
			answer := diagnosis.Why(situation)
			return output.Write(cmd.OutOrStdout(), answer, answer.Print)
		},
	}
	cluster.AddFlags(command.Flags())
	output.AddFlags(command.Flags())
	return command
}
