// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/ami"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/awsnode"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/kubelet"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/process"
)

// NodeOptions of an instance's processes.
type NodeOptions struct {
	Dir, BinDir, InstanceID, Kubelet string
}

func (o NodeOptions) disk() string { return filepath.Join(o.Dir, "instances", o.InstanceID) }
func (o NodeOptions) logs() string { return filepath.Join(logDir(o.Dir), o.InstanceID) }

// RunNode boots an instance: it makes the machine's root, puts what the AMI ships there, and runs its kubelet.
func RunNode(ctx context.Context, opts NodeOptions) error {
	if opts.Kubelet != Real {
		return runStandIn(ctx, opts)
	}
	if os.Getpid() == 1 {
		return runInit(opts)
	}
	return runReal(ctx, opts)
}

func runStandIn(ctx context.Context, opts NodeOptions) error {
	self, err := makeMachine(opts, "")
	if err != nil {
		return err
	}
	// The EKS AMIs ship the reference plugins.
	if err := os.Symlink(filepath.Join(opts.BinDir, "portmap"), "/opt/cni/bin/portmap"); err != nil {
		return err
	}
	programs, err := programsIn(opts.BinDir)
	if err != nil {
		return err
	}
	programs[awsnode.Image] = self
	k, err := kubelet.New(ctx, kubelet.Options{
		Kubeconfig:    filepath.Join(opts.disk(), "kubeconfig"),
		Programs:      programs,
		ContainerInit: []string{self, "sandbox", "container"},
		RootDir:       filepath.Join(opts.disk(), "kubelet"),
		LogDir:        opts.logs(),
		InstanceType:  hardware,
		Log:           slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return fmt.Errorf("instance %s: %w", opts.InstanceID, err)
	}
	return k.Run(ctx)
}

// programsIn a folder, by name: what containers run whose image is called so.
func programsIn(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	programs := map[string]string{}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			programs[entry.Name()] = path
		}
	}
	return programs, nil
}

// runInit is the first process of an instance with a real kubelet. It makes the machine, and a control group that the rest
// has for its root.
func runInit(opts NodeOptions) error {
	self, err := makeMachine(opts, filepath.Join(opts.BinDir, ami.PackagesDir))
	if err != nil {
		return err
	}
	if err := ami.Isolate(cgroupOf(opts.Dir) + "/" + opts.InstanceID); err != nil {
		return err
	}
	return process.RunInit(self, os.Args[1:], &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWCGROUP},
	})
}

func runReal(ctx context.Context, opts NodeOptions) error {
	if err := ami.MountCgroups(); err != nil {
		return err
	}
	plugins, err := filepath.Glob("/usr/lib/cni/*")
	if err != nil {
		return err
	}
	for _, plugin := range plugins {
		if err := os.Symlink(plugin, filepath.Join("/opt/cni/bin", filepath.Base(plugin))); err != nil {
			return err
		}
	}
	machine, err := bootstrap.Read(ctx, hardware)
	if err != nil {
		return fmt.Errorf("instance %s: %w", opts.InstanceID, err)
	}
	return ami.Run(ctx, ami.Options{
		BinDir: opts.BinDir, Disk: opts.disk(), LogDir: opts.logs(), Machine: machine,
		Kubeconfig: filepath.Join(opts.disk(), "kubeconfig"), ProxyKubeconfig: filepath.Join(opts.disk(), "proxy.kubeconfig"),
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
}

// makeMachine gives the calling process a machine's root and name, and returns where this program is there.
func makeMachine(opts NodeOptions, packages string) (self string, err error) {
	if self, err = os.Executable(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(opts.logs(), 0o755); err != nil {
		return "", err
	}
	if err := instanceRoot(packages, opts.BinDir, opts.disk(), opts.logs(), filepath.Dir(self)); err != nil {
		return "", err
	}
	return self, unix.Sethostname([]byte(opts.InstanceID))
}

// RunBake makes the disk that instances with real kubelets boot from. It has a process namespace to itself.
func RunBake(ctx context.Context, opts Options, disk string) error {
	logs := filepath.Join(logDir(opts.Dir), "ami")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	keep := []string{opts.BinDir, disk, logs}
	for _, archive := range opts.Images {
		keep = append(keep, filepath.Dir(archive))
	}
	if err := instanceRoot(filepath.Join(opts.BinDir, ami.PackagesDir), keep...); err != nil {
		return err
	}
	return ami.Bake(ctx, disk, logs, append(slices.Clone(opts.Images), pauseArchive(opts.BinDir)))
}

func hardware(name string) (bootstrap.Hardware, bool) {
	info, ok := instancetypes.Info(name)
	if !ok {
		return bootstrap.Hardware{}, false
	}
	enis, addresses := aws.ToInt32(info.NetworkInfo.MaximumNetworkInterfaces), aws.ToInt32(info.NetworkInfo.Ipv4AddressesPerInterface)
	architecture := "amd64"
	if slices.Contains(info.ProcessorInfo.SupportedArchitectures, ec2types.ArchitectureTypeArm64) {
		architecture = "arm64"
	}
	return bootstrap.Hardware{
		Architecture: architecture,
		CPUs:         int64(aws.ToInt32(info.VCpuInfo.DefaultVCpus)), MemoryMiB: aws.ToInt64(info.MemoryInfo.SizeInMiB),
		// As the AMIs' eni-max-pods.txt; two more pods use the node's own network.
		DefaultMaxPods: int(enis*(addresses-1) + 2),
	}, true
}
