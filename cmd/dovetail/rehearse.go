// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/rehearsal"
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
	latency, binDir string
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
	flags.StringVar(&opts.latency, "latency", "aws", "how long EC2 takes in the sandbox: aws, or fast, with which durations say nothing")
	flags.StringVar(&opts.binDir, "bin-dir", ownDir(), "programs of the sandbox")
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

// ownDir is where the programs of the sandbox are, unless --bin-dir says so.
func ownDir() string {
	self, err := os.Executable()
	if err != nil {
		return "."
	}
	return filepath.Dir(self)
}
