// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/rehearsal"
)

func newSandboxCommand() *cobra.Command {
	return &cobra.Command{
		Use: "sandbox", Short: "Try Dovetail on a Linux machine: a cluster, an AWS account and a VPC, simulated but for their packets",
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("the sandbox needs Linux: its nodes are namespaces of the kernel; run it in a virtual machine")
		},
	}
}

func (o *rehearseOptions) rehearse(context.Context, io.Writer, rehearsal.Params) (rehearsal.Report, error) {
	return rehearsal.Report{}, errors.New("a rehearsal needs Linux: take the cluster's shape along with --from-cluster --write DIR, and rehearse on Linux with --from-dir DIR")
}
