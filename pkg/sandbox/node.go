// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/kubelet"
)

// NodeOptions of an instance's first process.
type NodeOptions struct {
	Dir, BinDir, InstanceID string
}

// RunNode boots an instance: it makes the machine's root, puts what the AMI ships there, and is its kubelet.
func RunNode(ctx context.Context, opts NodeOptions) error {
	own := filepath.Join(opts.Dir, "instances", opts.InstanceID)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	logs := filepath.Join(logDir(opts.Dir), opts.InstanceID)
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	if err := instanceRoot(opts.BinDir, own, logs, filepath.Dir(self)); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(opts.InstanceID)); err != nil {
		return err
	}
	// The EKS AMIs ship the reference plugins.
	if err := os.Symlink(filepath.Join(opts.BinDir, "portmap"), "/opt/cni/bin/portmap"); err != nil {
		return err
	}
	programs := map[string]string{}
	for _, name := range []string{"controller", "agent", "cni"} {
		programs[name] = filepath.Join(opts.BinDir, name)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	k, err := kubelet.New(ctx, kubelet.Options{
		Kubeconfig:    filepath.Join(own, "kubeconfig"),
		Programs:      programs,
		ContainerInit: []string{self, "sandbox", "container"},
		RootDir:       filepath.Join(own, "kubelet"),
		LogDir:        logs,
		InstanceType:  hardware,
		Log:           log,
	})
	if err != nil {
		return fmt.Errorf("instance %s: %w", opts.InstanceID, err)
	}
	return k.Run(ctx)
}

func hardware(name string) (bootstrap.Hardware, bool) {
	info, ok := instancetypes.Info(name)
	if !ok {
		return bootstrap.Hardware{}, false
	}
	enis, addresses := aws.ToInt32(info.NetworkInfo.MaximumNetworkInterfaces), aws.ToInt32(info.NetworkInfo.Ipv4AddressesPerInterface)
	return bootstrap.Hardware{
		CPUs: int64(aws.ToInt32(info.VCpuInfo.DefaultVCpus)), MemoryMiB: aws.ToInt64(info.MemoryInfo.SizeInMiB),
		// As the AMIs' eni-max-pods.txt; two more pods use the node's own network.
		DefaultMaxPods: int(enis*(addresses-1) + 2),
	}, true
}
