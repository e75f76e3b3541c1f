// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/ami"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/process"
)

// machines are the instances' processes: one each, the first of a process namespace, so that all end with it.
type machines struct {
	d *daemon

	mu      sync.Mutex
	running map[string]*machine
	ami     string // the disk that instances with real kubelets boot from
}

type machine struct {
	node  string
	cmd   *exec.Cmd
	done  chan struct{}
	hangs bool
}

func newMachines(d *daemon) *machines { return &machines{d: d, running: map[string]*machine{}} }

// setAMI for the instances that boot from now on, and returns what it was.
func (m *machines) setAMI(disk string) (before string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, m.ami = m.ami, disk
	return before
}

// stop ends the instances that the account says are ending or gone.
func (m *machines) stop(s aws.Snapshot) {
	living := map[string]bool{}
	for _, instance := range s.Instances {
		living[instance.ID] = instance.State == "running"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, machine := range m.running {
		if living[id] {
			continue
		}
		_ = machine.cmd.Process.Kill() // it may have ended by itself
		<-machine.done
		delete(m.running, id)
		if err := errors.Join(m.removeCgroup(id), os.RemoveAll(m.disk(id))); err != nil {
			m.d.log.Warn("removing an instance's disk", "instance", id, "error", err)
		}
	}
}

// start boots the instances that run now. One whose first process ended stays as it is: a machine that hangs.
func (m *machines) start(s aws.Snapshot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, instance := range s.Instances {
		if instance.State != "running" || m.running[instance.ID] != nil {
			continue
		}
		machine, err := m.boot(instance)
		if err != nil {
			errs = append(errs, fmt.Errorf("booting %s: %w", instance.ID, err))
			continue
		}
		m.running[instance.ID] = machine
	}
	for _, instance := range s.Instances {
		if machine := m.running[instance.ID]; machine != nil && machine.hangs != instance.Hangs {
			if err := machine.hang(instance.Hangs); err != nil {
				errs = append(errs, fmt.Errorf("instance %s: %w", instance.ID, err))
			}
		}
	}
	return errors.Join(errs...)
}

// hang lets all processes of the machine stand still, or go on.
func (m *machine) hang(hangs bool) error {
	do := process.ResumeTree
	if hangs {
		do = process.PauseTree
	}
	if err := do(m.cmd.Process.Pid); err != nil {
		return err
	}
	m.hangs = hangs
	return nil
}

func (m *machines) boot(instance aws.Instance) (*machine, error) {
	dir := m.disk(instance.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	kubeconfig, err := m.d.control.NodeKubeconfig("https://"+m.d.endpoint.String(), instance.PrivateDNS)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "kubeconfig"), kubeconfig, 0o600); err != nil {
		return nil, err
	}
	if m.d.opts.Kubelet == Real {
		if err := m.prepareReal(dir); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(logDir(m.d.opts.Dir), instance.ID+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", "sandbox", "node", "--dir", m.d.opts.Dir, "--bin-dir", m.d.opts.BinDir, "--instance", instance.ID, "--kubelet", m.d.opts.Kubelet)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS}
	// A child is born in the network namespace of the thread that forks it.
	if err := netns.Do(m.d.network.InstancePath(instance.ID), cmd.Start); err != nil {
		return nil, err
	}
	booted := &machine{node: instance.PrivateDNS, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(booted.done)
		if err := cmd.Wait(); err != nil {
			m.d.log.Info("instance ended", "instance", instance.ID, "reason", err)
		}
	}()
	return booted, nil
}

// prepareReal gives a disk what the AMI of real kubelets brings.
func (m *machines) prepareReal(disk string) error {
	kubeconfig, err := m.d.control.ProxyKubeconfig("https://" + m.d.endpoint.String())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(disk, "proxy.kubeconfig"), kubeconfig, 0o600); err != nil {
		return err
	}
	return ami.Clone(m.ami, disk)
}

func (m *machines) removeCgroup(instanceID string) error {
	if m.d.opts.Kubelet != Real {
		return nil
	}
	return ami.RemoveCgroups(cgroupOf(m.d.opts.Dir) + "/" + instanceID)
}

// disk of an instance, which ends with it.
func (m *machines) disk(instanceID string) string {
	return filepath.Join(m.d.opts.Dir, "instances", instanceID)
}

func (m *machines) status() []InstanceStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []InstanceStatus{}
	for id, machine := range m.running {
		list = append(list, InstanceStatus{ID: id, Node: machine.node, PID: machine.cmd.Process.Pid})
	}
	slices.SortFunc(list, func(a, b InstanceStatus) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// instanceRoot gives the calling process a root of its own, as a machine has one: the host's programs with those of packages
// ("": none) over them, and everything else empty. keep is there as on the host.
func instanceRoot(packages string, keep ...string) error {
	const root = "/run"
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("machine's root: %w", err)
	}
	if err := mountPrograms(root+"/usr", packages); err != nil {
		return fmt.Errorf("machine's /usr: %w", err)
	}
	for _, dir := range append([]string{"/sys", "/dev", "/etc/ssl", "/etc/alternatives"}, keep...) {
		if err := bindInto(root, dir); err != nil {
			return fmt.Errorf("machine's %s: %w", dir, err)
		}
	}
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib64"} {
		if err := os.Symlink("usr"+dir, root+dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/proc", "/run/netns", "/tmp", "/mnt", "/root", "/var/lib", "/var/log", "/etc/cni/net.d", "/opt/cni/bin", "/old"} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", root+"/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("machine's /proc: %w", err)
	}
	if err := unix.PivotRoot(root, root+"/old"); err != nil {
		return fmt.Errorf("machine's root: %w", err)
	}
	if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
		return err
	}
	return errors.Join(os.Remove("/old"), os.Chdir("/"))
}

func mountPrograms(target, packages string) error {
	if packages == "" {
		return bindInto(filepath.Dir(target), "/usr")
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	return unix.Mount("overlay", target, "overlay", unix.MS_RDONLY, "lowerdir="+filepath.Join(packages, "usr")+":/usr")
}

func bindInto(root, dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return nil //nolint:nilerr // not on this host, so not on its machines
	}
	if err := os.MkdirAll(root+dir, 0o755); err != nil {
		return err
	}
	return unix.Mount(dir, root+dir, "", unix.MS_BIND|unix.MS_REC, "")
}
