// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/rehearsal"
	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// rehearseOptions are the flags of `dovetail rehearse`.
type rehearseOptions struct {
	cluster         *cli.Cluster
	output          cli.Output
	fromCluster     bool
	fromDir, change string
	dir             string
	force           bool
	timeout         time.Duration
	sandbox         sandbox.Options
}

func newRehearseCommand() *cobra.Command {
	opts := rehearseOptions{cluster: cli.NewCluster()}
	cmd := &cobra.Command{
		Use:   "rehearse (--from-cluster | --from-dir DIR) [-f FILE]",
		Short: "Run a cluster's migration in a sandbox first",
		Long: `Take the shape of a cluster and of its VPC, build the same in a sandbox of hollow nodes, apply a PodNetwork there, and report what
Karpenter and Dovetail make of it: nodes before and after, how long it takes under the disruption budgets and what it waits for, pods that
find no node and why, addresses and cost.

The cluster is only read: counts, requests and constraints; no Secrets, ConfigMaps, images, commands or environment. Nothing of it leaves this
machine. It exits with 2 when the migration does not complete, or leaves pods without a node that had one before.`,
		Example: `  dovetail rehearse --from-cluster -f podnetwork.yaml
  dovetail rehearse --from-cluster --write shape           # take the shape along, and rehearse elsewhere
  dovetail rehearse --from-dir shape -f podnetwork.yaml -o json`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return opts.run(cmd) },
	}
	opts.cluster.AddFlags(cmd.Flags())
	opts.output.AddFlags(cmd.Flags())
	flags := cmd.Flags()
	flags.BoolVar(&opts.fromCluster, "from-cluster", false, "rehearse with the cluster that kubectl's flags and the AWS configuration name")
	flags.StringVar(&opts.fromDir, "from-dir", "", "rehearse with manifests in a directory, and its vpc.yaml")
	flags.StringVarP(&opts.change, "filename", "f", "", "what to rehearse: PodNetwork, ENIConfigs, NodeMigration, NodePools, EC2NodeClasses (default: the cluster's own PodNetworks)")
	flags.StringVar(&opts.dir, "write", "", "write what was read into this directory, for --from-dir, and rehearse nothing")
	flags.BoolVar(&opts.force, "force", false, "let --write overwrite files")
	flags.DurationVar(&opts.timeout, "timeout", 30*time.Minute, "when to give the migration up")
	flags.StringVar(&opts.sandbox.Latency, "latency", "aws", "how long EC2 takes in the sandbox: aws, or fast, with which durations say nothing")
	flags.StringVar(&opts.sandbox.BinDir, "bin-dir", ownDir(), "programs of the sandbox")
	cmd.MarkFlagsOneRequired("from-cluster", "from-dir")
	cmd.MarkFlagsMutuallyExclusive("from-cluster", "from-dir")
	return cmd
}

// unsuccessful makes the program exit with 2: the report has said why.
type unsuccessful struct{}

func (unsuccessful) Error() string { return "the migration would not succeed" }

// ExitCode of the program.
func (unsuccessful) ExitCode() int { return 2 }

func (o *rehearseOptions) run(cmd *cobra.Command) error {
	apis.Register(scheme.Scheme) // where Karpenter's packages have put their kinds
	var change *rehearsal.Cluster
	var err error
	if o.change != "" {
		if change, err = rehearsal.ReadChange(o.change); err != nil {
			return err
		}
	}
	shape, err := o.read(cmd.Context())
	if err != nil {
		return err
	}
	if o.dir != "" {
		return shape.Write(o.dir, o.force)
	}
	if err := shape.Check(); err != nil {
		return err
	}
	report, err := o.rehearse(cmd.Context(), cmd.ErrOrStderr(), rehearsal.Params{Cluster: shape, Change: change, Timeout: o.timeout, Progress: cmd.ErrOrStderr()})
	if err != nil {
		return err
	}
	if err := o.output.Write(cmd.OutOrStdout(), report, report.Print); err != nil {
		return err
	}
	if !report.Successful() {
		return unsuccessful{}
	}
	return nil
}

func (o *rehearseOptions) read(ctx context.Context) (*rehearsal.Cluster, error) {
	if o.fromDir != "" {
		return rehearsal.FromDir(o.fromDir)
	}
	c, err := o.cluster.Client()
	if err != nil {
		return nil, err
	}
	return rehearsal.FromCluster(ctx, rehearsal.Source{Cluster: c, AWS: cli.AWS})
}

// rehearse in a sandbox of its own, of which nothing stays.
func (o *rehearseOptions) rehearse(ctx context.Context, progress io.Writer, params rehearsal.Params) (report rehearsal.Report, err error) {
	if o.sandbox.Dir, err = os.MkdirTemp("", "dovetail-rehearsal-"); err != nil {
		return report, err
	}
	o.sandbox.Kubelet, o.sandbox.Out = sandbox.Hollow, progress
	s, err := sandbox.Up(ctx, o.sandbox)
	if err != nil {
		if ctx.Err() != nil {
			return report, errors.Join(ctx.Err(), os.RemoveAll(o.sandbox.Dir))
		}
		return report, fmt.Errorf("starting a sandbox: %w", err)
	}
	defer func() {
		// Also when it was interrupted.
		downCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, s.Down(downCtx), os.RemoveAll(o.sandbox.Dir))
	}()
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		return report, err
	}
	config.QPS = -1 // the stage is ours alone
	kube, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		return report, err
	}
	params.Stage = rehearsal.Stage{
		Kube: kube, ClusterName: sandbox.ClusterName, Role: sandbox.NodeRole, VPC: sandbox.VPCID, Latency: o.sandbox.Latency,
		AWS: awssdk.Config{
			Region: sandbox.Region, BaseEndpoint: awssdk.String(s.AWS), Credentials: credentials.NewStaticCredentialsProvider("sandbox", "sandbox", ""),
			// A large VPC is built with more calls than EC2's request buckets hold.
			Retryer: func() awssdk.Retryer {
				return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.RateLimiter = 30, ratelimit.None })
			},
		},
		Price: func(instanceType string) float64 {
			price, _ := instancetypes.Price(instanceType)
			return price
		},
		PricesFrom: "a list in this program, of " + sandbox.Region + ", on demand",
	}
	return rehearsal.Run(ctx, params)
}
