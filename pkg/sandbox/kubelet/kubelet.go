// SPDX-License-Identifier: Apache-2.0

// Package kubelet stands in for the kubelet and the container runtime of an instance. It reads the launch's user data
// from the instance metadata service, registers the node, and gives each pod a network namespace through the real CNI
// plugins of the node (libcni).
//
// Containers of images that it has a program for are processes in a mount namespace of their own, with the pod's
// arguments, environment and volumes; a container of any other image is its pod's network namespace and nothing else. It
// does not enforce resources and security contexts. Of what kubelets serve to the API server, it serves exec.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
)

// Options of a kubelet. It runs in its instance's network and mount namespace.
type Options struct {
	// Kubeconfig holds the node's credentials; the server is the one that the user data name.
	Kubeconfig string
	// Programs by the last element of an image's repository: what to run for its containers.
	Programs map[string]string
	// ContainerInit is the command that prepares a container's mounts and becomes its program: see RunContainerInit.
	ContainerInit []string
	// RootDir holds pods' volumes.
	RootDir string
	// LogDir gets a file <pod>.<container>.log for each container that runs; default RootDir.
	LogDir string
	// InstanceType answers what the machine is made of.
	InstanceType func(name string) (bootstrap.Hardware, bool)

	CNIBinDir, CNIConfDir, CNICacheDir string // defaults: /opt/cni/bin, /etc/cni/net.d, /var/lib/cni
	Log                                *slog.Logger
}

// Kubelet of one instance.
type Kubelet struct {
	opts    Options
	machine bootstrap.Machine
	config  *rest.Config
	client  kubernetes.Interface
	events  record.EventRecorder
	// heartbeats is the client of the node's status and lease.
	heartbeats kubernetes.Interface
	network    network
	node       *corev1.Node

	mu   sync.Mutex
	pods map[types.UID]*podWorker
	done sync.WaitGroup
	// containers that were started and whose pods are still here: *container by containerKey.
	containers sync.Map
}

// New boots: it reads identity and user data, as cloud-init does, and connects to the cluster.
func New(ctx context.Context, opts Options) (*Kubelet, error) {
	opts.complete()
	k := &Kubelet{opts: opts, pods: map[types.UID]*podWorker{}, network: newNetwork(opts)}
	var err error
	if k.machine, err = bootstrap.Read(ctx, opts.InstanceType); err != nil {
		return nil, err
	}
	if k.config, err = clientcmd.BuildConfigFromFlags("", opts.Kubeconfig); err != nil {
		return nil, fmt.Errorf("node's credentials: %w", err)
	}
	k.config.Host = k.machine.Endpoint
	k.config.CAData = k.machine.CA
	k.config.UserAgent = "kubelet"
	if k.client, err = clientOf(k.config, 50, 0); err != nil {
		return nil, err
	}
	if k.heartbeats, err = clientOf(k.config, -1, heartbeatInterval); err != nil {
		return nil, err
	}
	events, err := clientOf(k.config, 50, 0)
	if err != nil {
		return nil, err
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: events.CoreV1().Events("")})
	k.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: k.machine.Hostname})
	return k, nil
}

// clientOf so many requests a second, and twice as many at once: a kubelet has one for its heartbeats (of no limit, so that nothing delays
// them), one for its events, and one for the rest.
func clientOf(config *rest.Config, qps float32, timeout time.Duration) (kubernetes.Interface, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst, config.Timeout = qps, int(2*qps), timeout
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	return client, nil
}

func (o *Options) complete() {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&o.CNIBinDir, "/opt/cni/bin")
	set(&o.CNIConfDir, "/etc/cni/net.d")
	set(&o.CNICacheDir, "/var/lib/cni")
	set(&o.RootDir, "/var/lib/kubelet")
	set(&o.LogDir, o.RootDir)
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

// Run registers the node and serves its pods until the context ends, then stops their processes. Pods' network
// namespaces end with the instance.
func (k *Kubelet) Run(ctx context.Context) error {
	for _, dir := range []string{k.opts.RootDir, k.opts.LogDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	listener, err := k.listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := k.register(ctx); err != nil {
		return fmt.Errorf("registering node %s: %w", k.machine.Hostname, err)
	}
	k.opts.Log.Info("registered", "node", k.machine.Hostname, "maxPods", k.machine.MaxPods())
	ended := make(chan error, 2)
	go func() { ended <- k.heartbeat(ctx) }()
	go func() { ended <- k.serve(ctx, listener) }()
	err = k.servePods(ctx)
	k.done.Wait()
	return errors.Join(err, <-ended, <-ended)
}

// poll calls f until it answers nil. What it waits for has no event to wait on.
func poll(ctx context.Context, interval time.Duration, f func(context.Context) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-ticker.C:
		}
	}
}
