// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	corev1 "k8s.io/api/core/v1"
)

// NetNSDir holds the pods' network namespaces, each a file named after the pod's UID.
const NetNSDir = "/run/netns"

// errNotInitialized is containerd's word for a node without a CNI configuration.
var errNotInitialized = errors.New("cni plugin not initialized")

// network calls the node's CNI plugins as a container runtime does.
type network struct {
	confDir string
	cni     *libcni.CNIConfig
	*networkState
}

type networkState struct {
	mu      sync.Mutex
	list    *libcni.NetworkConfigList
	loadErr error
	ready   bool          // was ready once
	changed chan struct{} // closed when the configuration has been read anew
}

func newNetwork(opts Options) network {
	return network{
		confDir:      opts.CNIConfDir,
		cni:          libcni.NewCNIConfigWithCacheDir([]string{opts.CNIBinDir}, opts.CNICacheDir, nil),
		networkState: &networkState{loadErr: errNotInitialized, changed: make(chan struct{})},
	}
}

// load reads the first configuration in the directory, by name.
func (n network) load() error {
	list, err := firstConfList(n.confDir)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list, n.loadErr = list, err
	n.ready = n.ready || err == nil
	close(n.changed)
	n.changed = make(chan struct{})
	return err
}

func firstConfList(dir string) (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(dir, []string{".conflist"})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errNotInitialized
	}
	slices.Sort(files)
	return libcni.ConfListFromFile(files[0])
}

func (n network) err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.loadErr
}

func (n network) readyBefore() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ready
}

// config waits until there is a configuration.
func (n network) config(ctx context.Context) (*libcni.NetworkConfigList, error) {
	for {
		n.mu.Lock()
		list, changed := n.list, n.changed
		n.mu.Unlock()
		if list != nil {
			return list, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// sandbox is a pod's network namespace as the plugins know it.
type sandbox struct {
	id    string
	netns string
	pod   *corev1.Pod
}

func (s sandbox) runtimeConf() *libcni.RuntimeConf {
	conf := &libcni.RuntimeConf{
		ContainerID: s.id, NetNS: s.netns, IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", s.pod.Namespace},
			{"K8S_POD_NAME", s.pod.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", s.id},
			{"K8S_POD_UID", string(s.pod.UID)},
		},
		CapabilityArgs: map[string]any{},
	}
	var mappings []map[string]any
	for _, container := range s.pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.HostPort > 0 {
				mappings = append(mappings, map[string]any{
					"hostPort": port.HostPort, "containerPort": port.ContainerPort, "protocol": string(port.Protocol), "hostIP": port.HostIP,
				})
			}
		}
	}
	if len(mappings) > 0 {
		conf.CapabilityArgs["portMappings"] = mappings
	}
	return conf
}

// add gives the sandbox its network and returns its address. What a failed attempt left is taken down again.
func (n network) add(ctx context.Context, s sandbox) (net.IP, error) {
	list, err := n.config(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := n.cni.AddNetworkList(ctx, list, s.runtimeConf())
	if err != nil {
		return nil, errors.Join(err, n.cni.DelNetworkList(context.WithoutCancel(ctx), list, s.runtimeConf()))
	}
	result, err := types100.GetResult(raw)
	if err != nil {
		return nil, fmt.Errorf("result of the CNI plugin: %w", err)
	}
	if len(result.IPs) == 0 {
		return nil, errors.New("the CNI plugin gave no address")
	}
	return result.IPs[0].Address.IP, nil
}

// remove takes the sandbox's network down; doing it again does no harm.
func (n network) remove(ctx context.Context, s sandbox) error {
	n.mu.Lock()
	list := n.list
	n.mu.Unlock()
	if list == nil {
		return errNotInitialized
	}
	return n.cni.DelNetworkList(ctx, list, s.runtimeConf())
}
