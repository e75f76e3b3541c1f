// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/kubelet"
)

func newSandboxCommand() *cobra.Command {
	opts := sandbox.Options{}
	command := &cobra.Command{Use: "sandbox", Short: "Try Dovetail on this machine: a cluster, an AWS account and a VPC, simulated but for their packets"}
	command.PersistentFlags().StringVar(&opts.Dir, "dir", sandbox.DefaultDir(), "state and logs")
	command.PersistentFlags().StringVar(&opts.BinDir, "bin-dir", ownDir(), "programs: the controller, agent, plugin and control plane")
	command.PersistentFlags().StringVar(&opts.Latency, "latency", "fast", "how long AWS takes: fast or aws")
	command.AddCommand(
		newUpCommand(&opts),
		&cobra.Command{Use: "down", Short: "End the sandbox and all that runs in it", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := sandbox.Open(opts.Dir)
			if errors.Is(err, sandbox.ErrNotRunning) {
				fmt.Fprintln(cmd.OutOrStdout(), "no sandbox is running")
				return sandbox.Clean(opts.Dir) // one that was killed may have left something
			}
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			return s.Down(ctx)
		}},
		newEnvCommand(&opts), newStatusCommand(&opts), newLoadCommand(&opts), newValuesCommand(&opts), newExecCommand(&opts), newAWSCommand(&opts), newFaultCommand(&opts),
	)
	command.AddCommand(internalCommands(&opts)...)
	command.AddCommand(newCaptureCommand(&opts), newCaptureLinksCommand())
	return command
}

func newUpCommand(opts *sandbox.Options) *cobra.Command {
	command := &cobra.Command{Use: "up", Short: "Start the sandbox", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		opts.Out = cmd.OutOrStdout()
		s, err := sandbox.Up(cmd.Context(), *opts)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "sandbox is up after %.1fs; use it with: eval \"$(dovetail sandbox env --dir %s)\"\n", s.UpSeconds, quoted(s.Dir))
		return nil
	}}
	addKubeletFlags(command, opts)
	return command
}

func addKubeletFlags(command *cobra.Command, opts *sandbox.Options) {
	command.Flags().StringVar(&opts.Kubelet, "kubelet", sandbox.StandIn, fmt.Sprintf("what instances run: %s (light, no containers), %s (kubelet, containerd and kube-proxy; needs root) or %s (nodes in the API server only, by the thousand)", sandbox.StandIn, sandbox.Real, sandbox.Hollow))
	command.Flags().StringVar(&opts.Layout, "layout", sandbox.Prepared, fmt.Sprintf("where the VPC stands: %s (100.64.0.0/17 attached, with a pod subnet in each zone) or %s (three /24 node subnets and no more: aws-node gives pods addresses of them, and a managed node group of three nodes runs them)", sandbox.Prepared, sandbox.Exhausted))
	command.Flags().BoolVar(&opts.Bare, "bare", false, "leave Dovetail out: what EKS gives a new cluster, for installing the charts oneself")
	command.Flags().StringVar(&opts.Values, "values", "", "file of values for the chart, as for helm install --values: feature gates, log level, ...")
	command.Flags().StringSliceVar(&opts.Images, "images", nil, "archives of images for real kubelets (default BIN-DIR/images.tar)")
}

func newEnvCommand(opts *sandbox.Options) *cobra.Command {
	return &cobra.Command{Use: "env", Short: "Print the environment for kubectl, the AWS CLI and any SDK", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		s, err := sandbox.Open(opts.Dir)
		if err != nil {
			return err
		}
		for _, variable := range s.Env() {
			name, value, _ := strings.Cut(variable, "=")
			fmt.Fprintf(cmd.OutOrStdout(), "export %s=%s\n", name, quoted(value))
		}
		return nil
	}}
}

// quoted for a shell, where that is needed.
func quoted(s string) string {
	if !strings.ContainsAny(s, " \t\n'\"\\$`&;|<>()*?[]#~!{}") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func newStatusCommand(opts *sandbox.Options) *cobra.Command {
	var output string
	command := &cobra.Command{Use: "status", Short: "Print what runs, and what the NAT gateway translates", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		s, err := sandbox.Open(opts.Dir)
		if err != nil {
			return err
		}
		status, err := s.Status(cmd.Context())
		if err != nil {
			return err
		}
		switch output {
		case "json":
			return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
				*sandbox.Sandbox
				sandbox.Status
			}{s, status})
		case "":
		default:
			return fmt.Errorf("-o %s: the only other output is json", output)
		}
		table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintf(table, "API server\t%s\nAWS\t%s\nlogs\t%s\n\nINSTANCE\tNODE\n", s.APIServer, s.AWS, filepath.Join(s.Dir, "logs"))
		for _, instance := range status.Instances {
			fmt.Fprintf(table, "%s\t%s\n", instance.ID, instance.Node)
		}
		return table.Flush()
	}}
	command.Flags().StringVarP(&output, "output", "o", "", "json")
	return command
}

func newValuesCommand(opts *sandbox.Options) *cobra.Command {
	return &cobra.Command{Use: "values", Short: "Print the values that the chart needs in this sandbox, for helm install --values", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		s, err := sandbox.Open(opts.Dir)
		if err != nil {
			return err
		}
		content, err := yaml.Marshal(s.Values)
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(content)
		return err
	}}
}

func newLoadCommand(opts *sandbox.Options) *cobra.Command {
	return &cobra.Command{Use: "load ARCHIVE", Short: "Give the instances the images of an archive (with real kubelets)", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		s, err := sandbox.Open(opts.Dir)
		if err != nil {
			return err
		}
		return s.Load(cmd.Context(), args[0])
	}}
}

func newExecCommand(opts *sandbox.Options) *cobra.Command {
	var instance, pod, host string
	command := &cobra.Command{
		Use: "exec [--instance ID | --pod NAMESPACE/NAME | --host vpc|internet|peer] -- COMMAND [ARG...]", Short: "Run a command inside",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := sandbox.Open(opts.Dir)
			if err != nil {
				return err
			}
			target := sandbox.Target{Instance: instance, Host: host}
			if pod != "" {
				if target, err = podTarget(cmd.Context(), s, pod); err != nil {
					return err
				}
			}
			run, err := s.Command(cmd.Context(), target, args...)
			if err != nil {
				return err
			}
			run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stdout, os.Stderr
			return run.Run()
		},
	}
	command.Flags().StringVar(&instance, "instance", "", "an instance's id")
	command.Flags().StringVar(&pod, "pod", "", "a pod's namespace and name: its network namespace")
	command.Flags().StringVar(&host, "host", "", "vpc (the router), internet (the host there) or peer (the host in the peered VPC)")
	command.MarkFlagsMutuallyExclusive("instance", "pod", "host")
	return command
}

// podTarget finds the instance that a pod runs on.
func podTarget(ctx context.Context, s *sandbox.Sandbox, name string) (sandbox.Target, error) {
	namespace, name, ok := strings.Cut(name, "/")
	if !ok {
		return sandbox.Target{}, fmt.Errorf("--pod wants NAMESPACE/NAME")
	}
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		return sandbox.Target{}, err
	}
	c, err := client.New(config, client.Options{})
	if err != nil {
		return sandbox.Target{}, err
	}
	pod := &corev1.Pod{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, pod); err != nil {
		return sandbox.Target{}, err
	}
	if pod.Status.PodIP == "" {
		return sandbox.Target{}, fmt.Errorf("pod %s/%s is not running", namespace, name)
	}
	node := &corev1.Node{}
	if err := c.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, node); err != nil {
		return sandbox.Target{}, err
	}
	target := sandbox.Target{Instance: node.Spec.ProviderID[strings.LastIndex(node.Spec.ProviderID, "/")+1:]}
	if !pod.Spec.HostNetwork {
		target.PodUID = string(pod.UID)
	}
	return target, nil
}

func newAWSCommand(opts *sandbox.Options) *cobra.Command {
	var listen, region string
	command := &cobra.Command{Use: "aws", Short: "Run only the AWS API simulator, for any SDK client", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		profile, err := aws.ProfileByName(opts.Latency)
		if err != nil {
			return err
		}
		listener, err := net.Listen("tcp", listen)
		if err != nil {
			return err
		}
		cloud := aws.New(aws.Options{Region: region, Latency: profile, Seed: time.Now().UnixNano()})
		fmt.Fprintf(cmd.OutOrStdout(), "export AWS_ENDPOINT_URL=http://%s AWS_REGION=%s AWS_ACCESS_KEY_ID=sandbox AWS_SECRET_ACCESS_KEY=sandbox\n", listener.Addr(), region)
		server := &http.Server{Handler: cloud.HandlerWithFaults(), ReadHeaderTimeout: time.Minute}
		context.AfterFunc(cmd.Context(), func() { server.Close() })
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}}
	command.Flags().StringVar(&listen, "listen", "127.0.0.1:4566", "address to listen on")
	command.Flags().StringVar(&region, "region", sandbox.Region, "Region to simulate")
	return command
}

// internalCommands are the processes that the sandbox starts from this program.
func internalCommands(opts *sandbox.Options) []*cobra.Command {
	var apiServer, instance, disk string
	daemon := &cobra.Command{Use: "daemon", Hidden: true, RunE: func(cmd *cobra.Command, _ []string) error {
		return sandbox.RunDaemon(cmd.Context(), sandbox.DaemonOptions{Options: *opts, APIServer: apiServer})
	}}
	daemon.Flags().StringVar(&apiServer, "api-server", "", "")
	addKubeletFlags(daemon, opts)
	bake := &cobra.Command{Use: "bake", Hidden: true, RunE: func(cmd *cobra.Command, _ []string) error {
		return sandbox.RunBake(cmd.Context(), *opts, disk)
	}}
	addKubeletFlags(bake, opts)
	bake.Flags().StringVar(&disk, "disk", "", "")
	node := &cobra.Command{Use: "node", Hidden: true, RunE: func(cmd *cobra.Command, _ []string) error {
		return sandbox.RunNode(cmd.Context(), sandbox.NodeOptions{Dir: opts.Dir, BinDir: opts.BinDir, InstanceID: instance, Kubelet: opts.Kubelet})
	}}
	node.Flags().StringVar(&instance, "instance", "", "")
	addKubeletFlags(node, opts)
	container := &cobra.Command{Use: "container", Hidden: true, RunE: func(*cobra.Command, []string) error {
		return kubelet.RunContainerInit(os.Stdin)
	}}
	return []*cobra.Command{daemon, bake, node, container, newAWSNodeCommand()}
}
