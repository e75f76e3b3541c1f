// SPDX-License-Identifier: Apache-2.0

// The agent runs on every node of a pod network and gives it addresses. `agent status` prints what the one that runs here has.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/dovetail-dev/dovetail/pkg/agent"
	"github.com/dovetail-dev/dovetail/pkg/agent/status"
	"github.com/dovetail-dev/dovetail/pkg/version"
)

func main() {
	if version.Asked(os.Args[1:], os.Stdout) {
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "status" {
		command := status.NewCommand()
		command.SetArgs(os.Args[2:])
		if err := command.Execute(); err != nil {
			fmt.Fprintln(os.Stderr, "agent status:", err)
			os.Exit(1)
		}
		return
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, log); err != nil {
		log.Error("the agent ends", "error", err)
		os.Exit(1) //nolint:gocritic // nothing is deferred that the kernel does not do
	}
}

func run(ctx context.Context, log *slog.Logger) error {
	opts, err := agent.ParseOptions(os.Args[1:])
	if err != nil {
		return err
	}
	log.Info("starting", "version", version.Get().String(), "options", fmt.Sprintf("%+v", opts))
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return fmt.Errorf("AWS configuration: %w", err)
	}
	kube, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("cluster's configuration: %w", err)
	}
	a, err := agent.New(ctx, opts, cfg, kube, log)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
