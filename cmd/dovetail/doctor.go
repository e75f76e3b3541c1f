// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/checkup"
	"github.com/dovetail-dev/dovetail/pkg/cli"
)

func newDoctorCommand() *cobra.Command {
	cluster, output := cli.NewCluster(), &cli.Output{}
	command := &cobra.Command{
		Use: "doctor", Short: "Check the installation: versions, custom resources, rights, controller, agents, pod networks, nodes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Client()
			if err != nil {
				return err
			}
			versions, err := cluster.Discovery()
			if err != nil {
				return err
			}
			installation, err := checkup.Inspect(cmd.Context(), c, versions)
			if err != nil {
				return err
			}
			report := checkup.Examine(installation)
			if err := output.Write(cmd.OutOrStdout(), report, report.Print); err != nil {
				return err
			}
			if report.Failed() {
				return errors.New("something does not work: see the lines with ✗")
			}
			return nil
		},
	}
	cluster.AddFlags(command.Flags())
	output.AddFlags(command.Flags())
	return command
}
