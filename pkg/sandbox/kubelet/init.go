// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// ContainerSpec is what RunContainerInit reads.
type ContainerSpec struct {
	Program string
	Args    []string
	Env     []string
	Mounts  []Mount
	// NetNS is the file of the pod's network namespace; "" for a pod in its node's.
	NetNS string
}

// executingFD is a pipe's end, which is closed when the program begins.
const executingFD = 3

// RunContainerInit becomes the container's program. It runs in a new mount namespace and builds the root that an image
// of one static program has: the program, the kernel's file systems, /etc and the volumes. Nothing of the instance's
// disk shows.
func RunContainerInit(input io.Reader) error {
	unix.CloseOnExec(executingFD)
	var spec ContainerSpec
	if err := json.NewDecoder(input).Decode(&spec); err != nil {
		return fmt.Errorf("container's specification: %w", err)
	}
	const root = "/mnt" // any folder that exists: it is covered in this namespace only
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("container's root: %w", err)
	}
	program := "/ko-app/" + filepath.Base(spec.Program)
	mounts := append([]Mount{
		{Source: "/proc", Target: "/proc"}, {Source: "/sys", Target: "/sys"}, {Source: "/dev", Target: "/dev"},
		{Source: "/etc", Target: "/etc", ReadOnly: true},
		{Source: spec.Program, Target: program, ReadOnly: true},
	}, spec.Mounts...)
	for _, m := range mounts {
		if err := bind(m, root); err != nil {
			return fmt.Errorf("mounting %s at %s: %w", m.Source, m.Target, err)
		}
	}
	if err := os.MkdirAll(root+"/tmp", 0o777); err != nil {
		return err
	}
	if spec.NetNS != "" {
		if err := enterNetNS(spec.NetNS); err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
	}
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	err := unix.Exec(program, append([]string{program}, spec.Args...), spec.Env)
	if errors.Is(err, unix.ENOENT) {
		// The program is there, so it is its loader that is not.
		return fmt.Errorf("%s is linked dynamically, and its image holds nothing but the program: build it with CGO_ENABLED=0, as make build does", spec.Program)
	}
	return fmt.Errorf("%s: %w", program, err)
}

// enterNetNS enters a network namespace with the thread that is to become the program.
func enterNetNS(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	runtime.LockOSThread()
	return unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
}

func bind(m Mount, root string) error {
	info, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	target := filepath.Join(root, m.Target)
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
		err = os.WriteFile(target, nil, 0o755)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(m.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !m.ReadOnly {
		return nil
	}
	return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}
