// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/pkg/plan/survey"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// planOptions are the flags of `dovetail plan`.
type planOptions struct {
	cluster      *cli.Cluster
	file, output string
	dir          string
	force        bool
	reservedENIs int
	clusterName  string
}

func newPlanCommand() *cobra.Command {
	opts := planOptions{cluster: cli.NewCluster()}
	cmd := &cobra.Command{
		Use:   "plan [POD_NETWORK]",
		Short: "Tell what a PodNetwork would do to a cluster, before it does",
		Long: `Tell what a PodNetwork would do to this cluster and its VPC: what would break, how many pods each instance type holds then and what a
pod costs, and how many addresses today's nodes take of the pod subnets.

It only reads, and needs neither Dovetail nor Karpenter in the cluster. What it may not read, it says and leaves out. Without a
PodNetwork it plans for one with an empty spec. It exits with 2 when a finding would do harm.`,
		Example: `  dovetail plan
  dovetail plan -f podnetwork.yaml -o html >plan.html
  dovetail plan --write manifests`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: cli.CompletePodNetworks,
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := opts.plan(cmd, args)
			if err != nil {
				return err
			}
			if err := opts.write(cmd.OutOrStdout(), report); err != nil {
				return err
			}
			if err := opts.writeManifests(report); err != nil {
				return err
			}
			if report.Harm {
				return harmful{}
			}
			return nil
		},
	}
	opts.cluster.AddFlags(cmd.Flags())
	flags := cmd.Flags()
	flags.StringVarP(&opts.file, "filename", "f", "", "file with a PodNetwork, and ENIConfigs if you like, that are not applied yet")
	flags.StringVarP(&opts.output, "output", "o", "", "json, html (one page for a browser), or nothing for people")
	flags.StringVar(&opts.dir, "write", "", "directory to write the manifests to apply into")
	flags.BoolVar(&opts.force, "force", false, "let --write overwrite files")
	flags.IntVar(&opts.reservedENIs, "reserved-enis", 0, "the controller's setting: ENIs of each instance that pods do not get")
	flags.StringVar(&opts.clusterName, "cluster-name", "", "what AWS calls the cluster; without it the tags of a node's instance tell")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "html"}, cobra.ShellCompDirectiveNoFileComp)) // it is there
	return cmd
}

// harmful makes the program exit with 2: the report has said why.
type harmful struct{}

func (harmful) Error() string { return "the plan would do harm" }

// ExitCode of the program.
func (harmful) ExitCode() int { return 2 }

func (o *planOptions) plan(cmd *cobra.Command, args []string) (plan.Report, error) {
	if !slices.Contains([]string{"", "json", "html"}, o.output) {
		return plan.Report{}, fmt.Errorf("-o %s: choose json or html", o.output)
	}
	if o.reservedENIs < 0 {
		return plan.Report{}, fmt.Errorf("--reserved-enis %d must not be negative", o.reservedENIs)
	}
	declared, err := survey.ReadFile(o.file)
	if err != nil {
		return plan.Report{}, err
	}
	name := strings.Join(args, "")
	if declared.Network != nil && name != "" && name != declared.Network.Name {
		return plan.Report{}, fmt.Errorf("%s has PodNetwork %s, not %s", o.file, declared.Network.Name, name)
	}
	cluster, err := o.cluster.Client()
	if err != nil {
		return plan.Report{}, err
	}
	host, err := o.cluster.Host()
	if err != nil {
		return plan.Report{}, err
	}
	facts, err := survey.Read(cmd.Context(), survey.Params{
		Cluster: cluster, Host: host, Name: name, Declared: declared, AWS: cli.AWS, InstanceTypes: embeddedTypes,
		PricesFrom: "a list in this program, of us-east-1, on demand", ReservedENIs: o.reservedENIs, ClusterName: o.clusterName,
	})
	if err != nil {
		return plan.Report{}, err
	}
	return plan.Make(facts), nil
}

func (o *planOptions) write(w io.Writer, report plan.Report) error {
	switch o.output {
	case "html":
		return report.HTML(w)
	case "json":
		return cli.JSON(w, report)
	}
	report.Print(cli.Plain(w), podnetwork.Drawing{Width: widthOf(w)})
	return nil
}

func (o *planOptions) writeManifests(report plan.Report) error {
	if o.dir == "" {
		return nil
	}
	files, err := report.Manifests()
	if err != nil {
		return err
	}
	return plan.Write(o.dir, files, o.force)
}

// embeddedTypes stand for EC2's where there are no AWS credentials.
func embeddedTypes() []plan.InstanceType {
	var types []plan.InstanceType
	for _, name := range instancetypes.Names() {
		if info, ok := instancetypes.Info(name); ok {
			price, _ := instancetypes.Price(name)
			types = append(types, plan.InstanceType{Info: info, Price: price})
		}
	}
	return types
}
