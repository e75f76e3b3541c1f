// SPDX-License-Identifier: Apache-2.0

package ami

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Control groups are the one thing that the sandbox has outside its namespaces: the kernel has one tree of them for each
// controller. Everything of a sandbox is below one group of that tree, by which it is found again when the sandbox was
// killed.

const cgroupRoot = "/sys/fs/cgroup"

// unified says whether the host has version 2 of control groups: one hierarchy for all controllers.
func unified() bool {
	var fs unix.Statfs_t
	return unix.Statfs(cgroupRoot, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

// hierarchies by the name of their directory, with what mounts them.
func hierarchies() (map[string]string, error) {
	if unified() {
		return map[string]string{"": ""}, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, fmt.Errorf("control groups: %w", err)
	}
	mounts := map[string]string{}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case !entry.IsDir() || name == "unified": // a link from one controller to the group that it is in; version 2 beside version 1
		case name == "systemd":
			mounts[name] = "none,name=systemd"
		default:
			mounts[name] = name
		}
	}
	if len(mounts) == 0 {
		return nil, fmt.Errorf("no control groups are mounted at %s: the kubelet needs them", cgroupRoot)
	}
	return mounts, nil
}

// Isolate moves the calling process into a control group, which is made where it is missing. A control group namespace that
// a child is then born in has this group for its root.
func Isolate(group string) error {
	mounts, err := hierarchies()
	if err != nil {
		return err
	}
	for name := range mounts {
		if err := makeGroup(filepath.Join(cgroupRoot, name), group); err != nil {
			return err
		}
		procs := filepath.Join(cgroupRoot, name, group, "cgroup.procs")
		if err := os.WriteFile(procs, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			return fmt.Errorf("joining a control group: %w", err)
		}
	}
	return nil
}

func makeGroup(hierarchy, group string) error {
	at := hierarchy
	for _, element := range strings.Split(group, "/") {
		if unified() {
			if err := delegate(at); err != nil {
				return fmt.Errorf("control group %s takes no children: %w", at, err)
			}
		}
		parent := at
		at = filepath.Join(at, element)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making a control group: %w", err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // version 1 gives a new group none
			content, err := os.ReadFile(filepath.Join(parent, file))
			if err != nil || unified() {
				continue
			}
			if err := os.WriteFile(filepath.Join(at, file), content, 0o644); err != nil {
				return fmt.Errorf("%s of a control group: %w", file, err)
			}
		}
	}
	return nil
}

// delegate lets a group's children have its controllers.
func delegate(group string) error {
	content, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, controller := range strings.Fields(string(content)) {
		if err := os.WriteFile(filepath.Join(group, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// MountCgroups shows a process in a control group namespace its own groups alone, as if they were all.
func MountCgroups() error {
	mounts, err := hierarchies()
	if err != nil {
		return err
	}
	if unified() {
		if err := unix.Mount("cgroup2", cgroupRoot, "cgroup2", 0, ""); err != nil {
			return fmt.Errorf("control groups: %w", err)
		}
		return makeRoom()
	}
	if err := unix.Mount("tmpfs", cgroupRoot, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("control groups: %w", err)
	}
	for name, options := range mounts {
		target := filepath.Join(cgroupRoot, name)
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("cgroup", target, "cgroup", 0, options); err != nil {
			return fmt.Errorf("control groups of %s: %w", name, err)
		}
	}
	return nil
}

// makeRoom moves the processes of the root into a group of their own: in version 2 a group with children has no processes.
func makeRoom() error {
	leaf := filepath.Join(cgroupRoot, "system")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	content, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(content)) {
		if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(pid), 0o644); err != nil {
			return err
		}
	}
	return delegate(cgroupRoot)
}

// RemoveCgroups removes a group with all below it, in every hierarchy. The processes in it must have been killed; they are
// waited for, a moment each.
func RemoveCgroups(group string) error {
	mounts, err := hierarchies()
	if err != nil {
		return nil //nolint:nilerr // no control groups, nothing to remove
	}
	var errs []error
	for name := range mounts {
		errs = append(errs, removeTree(filepath.Join(cgroupRoot, name, group)))
	}
	return errors.Join(errs...)
}

func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Reverse(dirs) // children before parents
	for _, dir := range dirs {
		if err := removeGroup(dir); err != nil {
			return err
		}
	}
	return nil
}

// removeGroup tries for a few seconds: a killed process leaves its group some time after its parent has heard of its end.
func removeGroup(dir string) error {
	const attempts, pause = 200, 20 * time.Millisecond
	var err error
	for range attempts {
		if err = unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		time.Sleep(pause)
	}
	return fmt.Errorf("removing control group %s: %w", dir, err)
}
