// SPDX-License-Identifier: Apache-2.0

// Dovetail is the command line: it computes max-pods, looks at pod subnets and nodes, and runs the sandbox.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRootCommand()
	root.SetArgs(arguments(os.Args))
	err := root.ExecuteContext(ctx)
	var exit interface{ ExitCode() int }
	switch {
	case errors.As(err, &exit): // of a command that ran in the sandbox, or of a plan: it has said why
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(cli.Plain(os.Stderr), "dovetail:", err)
		os.Exit(1)
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "dovetail",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: displayName(os.Args[0])},
		Short:         "Karpenter and the pod network, fitted to each other",
		Version:       version.Get().String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newSandboxCommand())
	root.AddCommand(newMaxPodsCommand())
	root.AddCommand(newCapacityCommand())
	root.AddCommand(newNodeCommand())
	root.AddCommand(newOverviewCommand())
	root.AddCommand(newWhyCommand())
	root.AddCommand(newDoctorCommand())
	root.AddCommand(newPlanCommand())
	root.AddCommand(newMigrateCommand())
	root.AddCommand(newRehearseCommand())
	root.AddCommand(newVersionCommand())
	cli.CompleteFlags(root)
	return root
}

// arguments of the command line. kubectl completes a plugin's by a program of this name.
func arguments(command []string) []string {
	if filepath.Base(command[0]) == "kubectl_complete-dovetail" {
		return append([]string{cobra.ShellCompRequestCmd}, command[1:]...)
	}
	return command[1:]
}

// displayName is what the command was called by: as kubectl-dovetail it is a plugin of kubectl.
func displayName(program string) string {
	if filepath.Base(program) == "kubectl-dovetail" {
		return "kubectl dovetail"
	}
	return "dovetail"
}
