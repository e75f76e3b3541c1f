// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/agent/status"
)

func newNodeCommand() *cobra.Command {
	command := &cobra.Command{Use: "node", Short: "Look at a node of a pod network"}
	command.AddCommand(status.NewCommand())
	return command
}
