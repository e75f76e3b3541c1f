// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/awsnode"
)

// newAWSNodeCommand is the program of the DaemonSet aws-node in a sandbox. Its settings are in the environment, as aws-node's.
func newAWSNodeCommand() *cobra.Command {
	opts := awsnode.Options{}
	command := &cobra.Command{Use: "aws-node", Hidden: true, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		warm, err := strconv.Atoi(os.Getenv("WARM_ENI_TARGET"))
		if err != nil {
			return fmt.Errorf("WARM_ENI_TARGET: %w", err)
		}
		opts.WarmENIs, opts.ClusterName = warm, os.Getenv("CLUSTER_NAME")
		cfg, err := config.LoadDefaultConfig(cmd.Context())
		if err != nil {
			return fmt.Errorf("AWS configuration: %w", err)
		}
		daemon, err := awsnode.New(cmd.Context(), opts, cfg, slog.New(slog.NewJSONHandler(os.Stderr, nil)))
		if err != nil {
			return err
		}
		return daemon.Run(cmd.Context())
	}}
	command.Flags().StringVar(&opts.StateDir, "state-dir", "/run/aws-node", "")
	command.Flags().StringVar(&opts.CNIConfDir, "cni-conf-dir", "/etc/cni/net.d", "")
	return command
}
