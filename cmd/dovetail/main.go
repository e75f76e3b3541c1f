// SPDX-License-Identifier: Apache-2.0

// Dovetail's command line.
package main

import (
	"os"

	"github.com/spf13/cobra"
)

func main() {
	root := &cobra.Command{
		Use:          "dovetail",
		Short:        "Karpenter and the pod network, fitted to each other",
		SilenceUsage: true,
	}
	root.AddCommand(newMaxPodsCommand())
	if err := root.Execute(); err != nil {
		os.Exit(1)
	}
}
