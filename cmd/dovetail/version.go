// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/version"
)

func newVersionCommand() *cobra.Command {
	output := &cli.Output{}
	command := &cobra.Command{
		Use: "version", Short: "Say which build of Dovetail this program is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			build := version.Get()
			return output.Write(cmd.OutOrStdout(), build, func(w io.Writer) { fmt.Fprintln(w, build) })
		},
	}
	output.AddFlags(command.Flags())
	return command
}
