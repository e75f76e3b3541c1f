// SPDX-License-Identifier: Apache-2.0

// Package hollow gives instances nodes that exist in the control plane only: one process for all of them, no network
// namespaces, no programs. Pods run as soon as they are bound, and end as soon as they are deleted. It is for load: what a
// thousand nodes cost the controller and the API server.
package hollow

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/kubelet"
)

// renewal of leases. Kubelets renew theirs every 10 s; leases last 40 s.
const renewal = 20 * time.Second

// Nodes are the nodes of all hollow instances.
type Nodes struct {
	client kubernetes.Interface
	log    *slog.Logger
	pods   *pods

	mu      sync.Mutex
	running map[string]*node // by name
}

type node struct {
	machine bootstrap.Machine
	stop    context.CancelFunc
}

// New prepares nodes; Run serves their pods.
func New(config *rest.Config, log *slog.Logger) (*Nodes, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = "kubelet"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("hollow nodes: %w", err)
	}
	n := &Nodes{client: client, log: log, running: map[string]*node{}}
	n.pods = newPods(n)
	return n, nil
}

// Run serves the nodes' pods until the context ends.
func (n *Nodes) Run(ctx context.Context) error { return n.pods.run(ctx) }

// Set has these machines run, and no others: a machine that is not among them any more falls silent, as one whose power is
// gone.
func (n *Nodes) Set(ctx context.Context, machines []bootstrap.Machine) {
	n.mu.Lock()
	defer n.mu.Unlock()
	wanted := make(map[string]string, len(machines))
	for _, machine := range machines {
		wanted[machine.Hostname] = machine.InstanceID
	}
	for name, running := range n.running {
		if wanted[name] != running.machine.InstanceID {
			running.stop()
			delete(n.running, name)
			n.pods.forget(name)
		}
	}
	for _, machine := range machines {
		if n.running[machine.Hostname] != nil {
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		n.running[machine.Hostname] = &node{machine: machine, stop: stop}
		go n.keep(ctx, machine)
	}
}

// machine that a node is.
func (n *Nodes) machine(nodeName string) (bootstrap.Machine, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if running := n.running[nodeName]; running != nil {
		return running.machine, true
	}
	return bootstrap.Machine{}, false
}

// keep registers a node and renews its lease until the machine ends.
func (n *Nodes) keep(ctx context.Context, machine bootstrap.Machine) {
	wanted := kubelet.NewNode(machine, kubelet.Conditions(nil))
	for {
		registered, err := n.client.CoreV1().Nodes().Create(ctx, wanted, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			registered, err = n.client.CoreV1().Nodes().Get(ctx, wanted.Name, metav1.GetOptions{})
		}
		if err == nil {
			wanted = registered
			break
		}
		n.warn(ctx, "registering a node", machine, err)
		if !pause(ctx, time.Second) {
			return
		}
	}
	n.pods.wake(machine.Hostname)
	for {
		if err := kubelet.RenewLease(ctx, n.client, wanted); err != nil {
			n.warn(ctx, "renewing a node's lease", machine, err)
		}
		if !pause(ctx, time.Duration(float64(renewal)*(0.9+0.2*rand.Float64()))) { //nolint:gosec // only spreads load
			return
		}
	}
}

func (n *Nodes) warn(ctx context.Context, what string, machine bootstrap.Machine, err error) {
	if ctx.Err() == nil {
		n.log.Warn(what, "node", machine.Hostname, "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
