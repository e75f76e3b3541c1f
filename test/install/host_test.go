// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// host is what a sandbox could leave behind outside its directory, each thing by a line that names it.
type host map[string]bool

// inspectHost lists processes by their command lines, links, mounts, control groups, and the files of the directories that
// kubelets and container runtimes write to on a machine of their own.
func inspectHost() (host, error) {
	found := host{}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, path := range processes {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		line := strings.TrimSpace(strings.ReplaceAll(string(content), "\x00", " "))
		for _, name := range []string{"sandbox daemon", "sandbox node", "containerd", "kubelet", "kube-proxy", "kube-apiserver", "etcd", "/ko-app/"} {
			if strings.Contains(line, name) && !strings.Contains(line, "go test") {
				found["process "+line] = true
			}
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		found["link "+link.Attrs().Name] = true
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		found["mount "+strings.Fields(line)[4]] = true
	}
	for _, root := range []string{"/sys/fs/cgroup", "/run", "/etc/cni", "/opt/cni", "/var/lib", "/var/log", "/etc/kubernetes", "/usr/libexec"} {
		if err := found.addTree(root, 2); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (h host) addTree(root string, depth int) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // not there, or gone in the meantime
		}
		h["file "+path] = true
		if entry.IsDir() && strings.Count(strings.TrimPrefix(path, root), "/") >= depth {
			return fs.SkipDir
		}
		return nil
	})
}

// since lists what exists now and did not before, of what a sandbox makes.
func (h host) since(before host) []string {
	var left []string
	for line := range h {
		if before[line] {
			continue
		}
		// Other programs of this machine come and go too.
		if strings.HasPrefix(line, "process ") && !strings.Contains(line, dir) {
			continue
		}
		left = append(left, line)
	}
	return left
}

func leftBehind() error {
	now, err := inspectHost()
	if err != nil {
		return err
	}
	if left := now.since(before); len(left) > 0 {
		return fmt.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
	return nil
}
