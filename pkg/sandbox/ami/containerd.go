// SPDX-License-Identifier: Apache-2.0

package ami

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/process"
)

const (
	containerdConfig = "/etc/containerd/config.toml"
	containerdSocket = "/run/containerd/containerd.sock"
	// namespace of the kubelet's images and containers.
	namespace = "k8s.io"
)

// config of containerd, as the EKS AMIs have it but for: no systemd to make control groups, no AppArmor, and no right to
// lower a process's OOM score.
const config = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + PauseImage + `"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "%s"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

// startContainerd returns when containerd answers.
func startContainerd(ctx context.Context, logDir string) (*process.Process, error) {
	if err := os.MkdirAll(filepath.Dir(containerdConfig), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(containerdConfig, fmt.Appendf(nil, config, snapshotter()), 0o644); err != nil {
		return nil, err
	}
	containerd, err := start("containerd", "/usr/bin/containerd", "--config", containerdConfig)(logDir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return containerd, containerd.WaitReady(ctx, func(ctx context.Context) error {
		_, err := ctr(ctx, "version")
		return err
	})
}

// snapshotter for the disk that containerd's directory is on: an overlay cannot have its changes on another overlay.
func snapshotter() string {
	var fs unix.Statfs_t
	if err := unix.Statfs("/var/lib/containerd", &fs); err == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "native"
	}
	return "overlayfs"
}

// Import gives the running containerd the images of an archive (of the OCI or Docker format).
func Import(ctx context.Context, archive string) error {
	_, err := ctr(ctx, "images", "import", "--snapshotter", snapshotter(), archive)
	return err
}

// Images that the running containerd has, by name.
func Images(ctx context.Context) ([]string, error) {
	out, err := ctr(ctx, "images", "list", "--quiet")
	return strings.Fields(out), err
}

func ctr(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"--address", containerdSocket, "--namespace", namespace}, args...)
	out, err := exec.CommandContext(ctx, "/usr/bin/ctr", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ctr %s: %w: %s", strings.Join(args[4:], " "), err, out)
	}
	return string(out), nil
}

// Clone gives an instance's disk what Bake made, in no time: files that never change are the same files. containerd
// changes its databases in place, so each disk has its own.
func Clone(baked, disk string) error {
	out, err := exec.Command("cp", "--archive", "--link", filepath.Join(baked, "containerd"), disk+"/").CombinedOutput()
	if err != nil {
		return fmt.Errorf("cloning %s: %w: %s", baked, err, out)
	}
	databases, err := filepath.Glob(filepath.Join(disk, "containerd", "*", "*.db"))
	if err != nil {
		return err
	}
	for _, path := range databases {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// PodNetNS finds the network namespace of a pod, as a file in the instance whose root is at a directory: in the
// specification that containerd gave runc for the pod's sandbox.
func PodNetNS(root, podUID string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(root, "run/containerd/io.containerd.runtime.v2.task", namespace, "*", "config.json"))
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // a container that has just ended
		}
		var spec struct {
			Annotations map[string]string
			Linux       struct {
				Namespaces []struct{ Type, Path string }
			}
		}
		if err := json.Unmarshal(content, &spec); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		if spec.Annotations["io.kubernetes.cri.sandbox-uid"] != podUID {
			continue
		}
		for _, ns := range spec.Linux.Namespaces {
			if ns.Type == "network" && ns.Path != "" {
				return ns.Path, nil
			}
		}
	}
	return "", fmt.Errorf("pod %s has no sandbox with a network namespace of its own on this instance", podUID)
}
