// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// Options of the agent. Each flag has an environment variable of the same name in upper case with underscores.
type Options struct {
	NodeName       string
	ClusterName    string
	StateDir       string
	CNIConfDir     string
	SysctlDir      string
	MetricsAddress string
	HealthAddress  string
	MTU            int
	// MaxENIs bounds all ENIs of the node, 0: what the instance type takes. ReservedENIs are left to others.
	MaxENIs, ReservedENIs int
}

// ParseOptions reads flags, and the environment where a flag is not given.
func ParseOptions(args []string) (Options, error) {
	var o Options
	flags := o.flags()
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := variable(f)
		if value, ok := os.LookupEnv(name); ok && !f.Changed {
			if err := f.Value.Set(value); err != nil {
				errs = append(errs, fmt.Errorf("%s=%q: %w", name, value, err))
			}
		}
	})
	return o, errors.Join(errors.Join(errs...), o.validate())
}

// variable of the environment for a flag.
func variable(f *pflag.Flag) string { return strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")) }

func (o *Options) flags() *pflag.FlagSet {
	flags := pflag.NewFlagSet("agent", pflag.ContinueOnError)
	flags.StringVar(&o.NodeName, "node-name", "", "name of the Node object of this node (required)")
	flags.StringVar(&o.ClusterName, "cluster-name", "", "name of the EKS cluster, for the tags of ENIs (required)")
	flags.StringVar(&o.StateDir, "state-dir", "/run/dovetail", "state that the CNI plugin shares")
	flags.StringVar(&o.CNIConfDir, "cni-conf-dir", "/etc/cni/net.d", "where the container runtime looks for CNI configurations")
	flags.StringVar(&o.SysctlDir, "sysctl-dir", "/proc/sys/net", "the node's /proc/sys/net, writable: in a container without privileges that of /proc is not")
	flags.StringVar(&o.MetricsAddress, "metrics-address", ":61680", "where /metrics is served")
	flags.StringVar(&o.HealthAddress, "health-address", "127.0.0.1:61681", "where /healthz and /readyz are served: the kubelet asks on the node")
	flags.IntVar(&o.MTU, "mtu", 9001, "MTU of ENIs and pods, 576 to 9001")
	flags.IntVar(&o.MaxENIs, "max-enis", 0, "most ENIs that the node may have, the primary one included; 0: what the instance type takes")
	flags.IntVar(&o.ReservedENIs, "reserved-enis", 0, "ENIs that are left to others, besides the primary one; as the controller's RESERVED_ENIS")
	return flags
}

func (o Options) validate() error {
	var errs []error
	if o.NodeName == "" {
		errs = append(errs, errors.New("--node-name (NODE_NAME) is required: give the pod's spec.nodeName"))
	}
	if o.ClusterName == "" {
		errs = append(errs, errors.New("--cluster-name (CLUSTER_NAME) is required"))
	}
	if o.MTU < 576 || o.MTU > 9001 {
		errs = append(errs, fmt.Errorf("--mtu %d is outside of 576..9001", o.MTU))
	}
	if o.MaxENIs < 0 || o.MaxENIs == 1 {
		errs = append(errs, fmt.Errorf("--max-enis %d: give at least 2, the primary ENI and one for pods, or 0", o.MaxENIs))
	}
	if o.ReservedENIs < 0 {
		errs = append(errs, fmt.Errorf("--reserved-enis %d is negative", o.ReservedENIs))
	}
	return errors.Join(errs...)
}
