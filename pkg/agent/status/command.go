// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// timeout of the question: the agent answers from memory, and from what it reads of the kernel.
const timeout = 10 * time.Second

// NewCommand prints the status of the node that it runs on.
func NewCommand() *cobra.Command {
	var socket, output string
	command := &cobra.Command{
		Use: "status", Short: "Print this node's ENIs, prefixes, leases, rules and last errors, as the node agent has them", Args: cobra.NoArgs,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("-o %s: the only other output is json", output)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			s, err := Get(ctx, socket)
			if err != nil {
				return err
			}
			if output == "json" {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(s)
			}
			return Print(cmd.OutOrStdout(), s)
		},
	}
	command.Flags().StringVar(&socket, "socket", DefaultSocket, "the node agent's socket")
	command.Flags().StringVarP(&output, "output", "o", "", "json")
	return command
}
