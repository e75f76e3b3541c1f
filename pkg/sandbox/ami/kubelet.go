// SPDX-License-Identifier: Apache-2.0

package ami

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/process"
)

const (
	kubeletConfig = "/etc/kubernetes/kubelet/config.json"
	clusterCA     = "/etc/kubernetes/pki/ca.crt"
)

// KubeletConfiguration is what nodeadm, or bootstrap.sh, would write for the machine.
//
// It differs where the machine is not one: control groups are made by the kubelet itself (there is no systemd) and may be
// of version 1, and the disk is the host's, so that only a full one counts as pressure.
func KubeletConfiguration(m bootstrap.Machine) map[string]any {
	config := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": "0.0.0.0",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true, "cacheTTL": "2m0s"},
			"x509":      map[string]any{"clientCAFile": clusterCA},
		},
		"authorization":             map[string]any{"mode": "Webhook"},
		"cgroupDriver":              "cgroupfs",
		"cgroupRoot":                "/",
		"failCgroupV1":              false,
		"failSwapOn":                false,
		"clusterDomain":             "cluster.local",
		"containerRuntimeEndpoint":  "unix://" + containerdSocket,
		"enforceNodeAllocatable":    []string{"pods"},
		"maxPods":                   m.MaxPods(),
		"providerID":                m.ProviderID(),
		"resolvConf":                "",
		"serializeImagePulls":       false,
		"kubeReserved":              m.Reserved(),
		"evictionHard":              evictionHard(m),
		"nodeStatusUpdateFrequency": "2s",
	}
	if len(m.ClusterDNS) > 0 {
		config["clusterDNS"] = m.ClusterDNS
	}
	if len(m.SystemReserved) > 0 {
		config["systemReserved"] = m.SystemReserved
	}
	if len(m.Taints) > 0 {
		config["registerWithTaints"] = m.Taints
	}
	return config
}

func evictionHard(m bootstrap.Machine) map[string]string {
	eviction := map[string]string{"memory.available": "100Mi"}
	maps.Copy(eviction, m.EvictionHard)
	eviction["nodefs.available"], eviction["imagefs.available"] = "1%", "1%"
	eviction["nodefs.inodesFree"], eviction["imagefs.inodesFree"] = "1%", "1%"
	return eviction
}

// configureKubelet writes the files that it reads.
func configureKubelet(opts Options) error {
	content, err := json.MarshalIndent(KubeletConfiguration(opts.Machine), "", "  ")
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{kubeletConfig: content, clusterCA: opts.Machine.CA} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func startKubelet(opts Options) (*process.Process, error) {
	m := opts.Machine
	return start("kubelet", filepath.Join(opts.BinDir, "kubelet"),
		"--config="+kubeletConfig, "--kubeconfig="+opts.Kubeconfig, "--hostname-override="+m.Hostname, "--node-ip="+m.IP.String(),
		"--node-labels="+labels(m), "--root-dir=/var/lib/kubelet", "--v=2")(opts.LogDir)
}

// labels of the node. Those of zone and type are the cloud controller's work on EKS.
func labels(m bootstrap.Machine) string {
	list := []string{}
	own := []string{corev1.LabelHostname, corev1.LabelOSStable, corev1.LabelArchStable} // the kubelet sets them itself
	for key, value := range m.NodeLabels() {
		if !slices.Contains(own, key) {
			list = append(list, key+"="+value)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// startProxy starts kube-proxy as the EKS add-on does, but for the settings of connection tracking, some of which are the
// host's.
func startProxy(opts Options) (*process.Process, error) {
	return start("kube-proxy", filepath.Join(opts.BinDir, "kube-proxy"),
		"--kubeconfig="+opts.ProxyKubeconfig, "--hostname-override="+opts.Machine.Hostname, "--proxy-mode=iptables",
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
		"--v=2")(opts.LogDir)
}
