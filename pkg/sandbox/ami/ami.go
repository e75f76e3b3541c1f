// SPDX-License-Identifier: Apache-2.0

// Package ami is what an EKS AMI brings to an instance: containerd with images that were pulled beforehand, and on each
// boot the kubelet and kube-proxy, configured from the launch's user data. The programs are the real ones; what differs
// from a virtual machine is arranged around them: a control group as the root of all others (Isolate, MountCgroups), a
// machine's size (Disguise) and settings of the host's kernel that are not theirs to change.
package ami

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/process"
)

// Programs that must be in Options.BinDir.
func Programs() []string { return []string{"kubelet", "kube-proxy"} }

// PackagesDir is where the distribution's packages (containerd, runc and the tools of kube-proxy) lie in a directory of
// programs, as `make node-programs` unpacks them. Their usr is to be laid over the instance's.
const PackagesDir = "packages"

// PauseImage is the image of pods' sandboxes, as containerd's configuration names it.
const PauseImage = "registry.k8s.io/pause:3.10"

// Options of an instance that boots. The calling process is in the instance's namespaces and root.
type Options struct {
	BinDir string
	// Disk lives as long as the instance: containerd's and the kubelet's directories.
	Disk   string
	LogDir string
	// Kubeconfig holds the node's credentials, ProxyKubeconfig kube-proxy's.
	Kubeconfig, ProxyKubeconfig string
	Machine                     bootstrap.Machine
	Log                         *slog.Logger
}

// Run boots, and keeps the programs running until the context ends, as systemd does on an instance.
func Run(ctx context.Context, opts Options) error {
	if err := prepare(opts); err != nil {
		return err
	}
	if err := Disguise(opts.Machine); err != nil {
		return fmt.Errorf("machine's size: %w", err)
	}
	if err := configureKubelet(opts); err != nil {
		return err
	}
	var services sync.WaitGroup
	for _, start := range []func() (*process.Process, error){
		func() (*process.Process, error) { return startContainerd(ctx, opts.LogDir) },
		func() (*process.Process, error) { return startKubelet(opts) },
		func() (*process.Process, error) { return startProxy(opts) },
	} {
		service, err := start()
		if err != nil {
			return err
		}
		services.Go(func() { keep(ctx, service, start, opts.Log) })
	}
	opts.Log.Info("started", "node", opts.Machine.Hostname, "maxPods", opts.Machine.MaxPods())
	services.Wait()
	return ctx.Err()
}

// keep starts a service again whenever it ends.
func keep(ctx context.Context, service *process.Process, start func() (*process.Process, error), log *slog.Logger) {
	const pause = time.Second // as long as systemd waits on the AMIs, but for the kubelet's five seconds
	for {
		var reason error
		if service != nil {
			select {
			case <-service.Done():
				reason = service.Err()
			case <-ctx.Done():
				return
			}
		}
		log.Warn("starting a service again", "reason", reason)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		var err error
		if service, err = start(); err != nil {
			log.Error("starting a service", "error", err)
			service = nil
		}
	}
}

// prepare makes the directories and files that the programs expect of a machine.
func prepare(opts Options) error {
	binds := map[string]string{
		"/var/lib/containerd": filepath.Join(opts.Disk, "containerd"),
		"/var/lib/kubelet":    filepath.Join(opts.Disk, "kubelet"),
		"/var/log":            opts.LogDir,
	}
	for target, source := range binds {
		if err := errors.Join(os.MkdirAll(source, 0o755), os.MkdirAll(target, 0o755)); err != nil {
			return err
		}
		if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", target, err)
		}
	}
	// The kubelet's mounts must reach containers, so nothing below the root may be private.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("making mounts shared: %w", err)
	}
	files := map[string]string{
		"/etc/hosts":      "127.0.0.1 localhost\n",
		"/etc/hostname":   opts.Machine.Hostname + "\n",
		"/etc/machine-id": opts.Machine.InstanceID + "\n",
		"/etc/passwd":     "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
		"/etc/group":      "root:x:0:\nnogroup:x:65534:\n",
	}
	for path, content := range files {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return os.Symlink("/run", "/var/run")
}

// Bake makes the disk that instances boot from: containerd's directory with the images of these archives. Instances get it
// by Clone.
func Bake(ctx context.Context, disk, logDir string, archives []string) error {
	target := filepath.Join(disk, "containerd")
	if err := errors.Join(os.MkdirAll(target, 0o755), os.MkdirAll("/var/lib/containerd", 0o755)); err != nil {
		return err
	}
	if err := unix.Mount(target, "/var/lib/containerd", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	containerd, err := startContainerd(ctx, logDir)
	if err != nil {
		return err
	}
	defer containerd.Stop(10 * time.Second) // gracefully: its database must be whole
	for _, archive := range archives {
		if err := Import(ctx, archive); err != nil {
			return err
		}
	}
	images, err := Images(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(images, PauseImage) {
		return fmt.Errorf("image %s, which every pod needs, is in none of the archives %v", PauseImage, archives)
	}
	return nil
}

func start(name, path string, args ...string) func(logDir string) (*process.Process, error) {
	return func(logDir string) (*process.Process, error) {
		return process.Start(process.Params{Name: name, Path: path, Args: args, LogDir: logDir, Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
		}})
	}
}
