// SPDX-License-Identifier: Apache-2.0

package ami

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
)

// kernelSettings are those that a kubelet sets for the whole host. It finds what it wants, and changes copies.
var kernelSettings = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}

// Disguise lets the kubelet see a machine of the instance's type, in the files of /proc and /sys that tell a machine's size,
// and keeps it from changing the host's kernel settings. What runs in containers sees the host.
func Disguise(m bootstrap.Machine) error {
	const dir = "/run/machine"
	cover := func(target, content string) error {
		source := filepath.Join(dir, target)
		if err := os.MkdirAll(filepath.Dir(source), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(source, []byte(content), 0o644); err != nil {
			return err
		}
		return unix.Mount(source, target, "", unix.MS_BIND, "")
	}
	var errs []error
	for name, value := range kernelSettings {
		errs = append(errs, cover("/proc/sys/"+name, value+"\n"))
	}
	kib := m.MemoryBytes() / 1024
	errs = append(errs,
		cover("/proc/meminfo", fmt.Sprintf("MemTotal: %d kB\nMemFree: %d kB\nMemAvailable: %d kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n", kib, kib, kib)),
		coverProcessors(m.CPUs, kib))
	return errors.Join(errs...)
}

// coverProcessors shows one NUMA node with a number of cores, of one thread each.
func coverProcessors(count, memoryKiB int64) error {
	const cpus, node = "/sys/devices/system/cpu", "/sys/devices/system/node"
	for _, dir := range []string{cpus, node} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	files := map[string]string{
		cpus + "/online": fmt.Sprintf("0-%d\n", count-1),
		// One line each, as the kernel writes them.
		node + "/node0/meminfo":  fmt.Sprintf("Node 0 MemTotal: %d kB\n", memoryKiB),
		node + "/node0/distance": "10\n",
		node + "/online":         "0\n",
	}
	for i := range count {
		topology := fmt.Sprintf("%s/cpu%d/topology/", cpus, i)
		files[topology+"core_id"], files[topology+"physical_package_id"] = fmt.Sprintf("%d\n", i), "0\n"
	}
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o444); err != nil {
			return err
		}
	}
	for i := range count {
		if err := os.Symlink(fmt.Sprintf("%s/cpu%d", cpus, i), fmt.Sprintf("%s/node0/cpu%d", node, i)); err != nil {
			return err
		}
	}
	return os.MkdirAll(node+"/node0/hugepages", 0o755)
}
