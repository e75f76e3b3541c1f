// SPDX-License-Identifier: Apache-2.0

// Dovetail is the command line: it computes max-pods, looks at pod subnets and nodes, and runs the sandbox.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newRootCommand().ExecuteContext(ctx)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit): // of a command that ran in the sandbox: it has said why
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "dovetail:", err)
		os.Exit(1)
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "dovetail",
		Short:         "Karpenter and the pod network, fitted to each other",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newSandboxCommand())
	root.AddCommand(newMaxPodsCommand())
	root.AddCommand(newCapacityCommand())
	root.AddCommand(newNodeCommand())
	return root
}
