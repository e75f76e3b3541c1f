// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/agent/status"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
)

// nodeTimeout of the way through the API server and a kubelet to an agent, which answers from memory.
const nodeTimeout = 30 * time.Second

func newNodeCommand() *cobra.Command {
	command := &cobra.Command{Use: "node", Short: "Look at a node of a pod network"}
	command.AddCommand(newNodeStatusCommand())
	return command
}

func newNodeStatusCommand() *cobra.Command {
	cluster, output := cli.NewCluster(), &cli.Output{}
	var socket string
	command := &cobra.Command{
		Use: "status [NODE]", Short: "Print a node's ENIs, prefixes, leases, rules and last errors, as its node agent has them",
		Long: `Print a node's ENIs, prefixes, leases, rules and last errors, as its node agent has them.

With the name of a node, the agent there is asked through the API server, as kubectl exec would: that takes the right to create pods/exec in
the agent's namespace. Without, the agent is asked that runs on this machine.`,
		Example: `  dovetail node status ip-10-0-0-12.ec2.internal
  dovetail node status ip-10-0-0-12.ec2.internal -o json`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: cli.CompleteNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), nodeTimeout)
			defer cancel()
			var found status.Status
			var err error
			if len(args) > 0 {
				found, err = agentStatus(ctx, cluster, args[0])
			} else {
				found, err = status.Get(ctx, socket)
			}
			if err != nil {
				return err
			}
			return output.Write(cmd.OutOrStdout(), found, func(w io.Writer) {
				_ = status.Print(w, found) // errors are the writer's
			})
		},
	}
	command.Flags().StringVar(&socket, "socket", status.DefaultSocket, "the socket of the node agent on this machine")
	cluster.AddFlags(command.Flags())
	output.AddFlags(command.Flags())
	return command
}

// agentStatus asks the agent of a node, in its pod.
func agentStatus(ctx context.Context, cluster *cli.Cluster, name string) (found status.Status, err error) {
	c, err := cluster.Client()
	if err != nil {
		return found, err
	}
	node := &corev1.Node{}
	switch err := c.Get(ctx, client.ObjectKey{Name: name}, node); {
	case apierrors.IsNotFound(err):
		return found, fmt.Errorf("there is no node %s: kubectl get nodes lists them", name)
	case err != nil:
		return found, cli.Explain(err)
	}
	agent, err := diagnosis.AgentPod(ctx, c, node)
	if err != nil {
		return found, err
	}
	command, err := diagnosis.StatusCommand(node, agent)
	if err != nil {
		return found, err
	}
	printed, err := cluster.Exec(ctx, command)
	var exit *cli.ExitError
	switch {
	case errors.As(err, &exit):
		return found, fmt.Errorf("the node agent on node %s tells no status: %w; kubectl -n %s logs %s", name, err, command.Namespace, command.Pod)
	case err != nil:
		return found, err
	}
	if err := json.Unmarshal(printed, &found); err != nil {
		return found, fmt.Errorf("the answer of pod %s/%s is no status of a node agent: %w", command.Namespace, command.Pod, err)
	}
	return found, nil
}
