// SPDX-License-Identifier: Apache-2.0

// Package hollow gives instances nodes that exist in the control plane only: one process for all of them, no network
// namespaces, no programs. Pods run as soon as they are bound, and end as soon as they are deleted and their preStop hooks have
// slept. It is for load, what a thousand nodes cost the controller and the API server, and for what asks the API server only.
package hollow

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/kubelet"
)

const (
	// renewal of leases, at most 1.2 times as long. Kubelets renew theirs every 10 s; leases last 40 s.
	renewal       = 18 * time.Second
	renewalJitter = 0.2
)

// Nodes are the nodes of all hollow instances.
type Nodes struct {
	client kubernetes.Interface
	log    *slog.Logger
	pods   *pods
	// answers says of which images readiness probes get an answer.
	answers func(image string) bool

	mu      sync.Mutex
	running map[string]*node // by name
}

type node struct {
	machine bootstrap.Machine
	stop    context.CancelFunc
}

// New prepares nodes; Run serves their pods. Readiness probes fail but for the images that answer.
func New(config *rest.Config, answers func(image string) bool, log *slog.Logger) (*Nodes, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = "kubelet"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("hollow nodes: %w", err)
	}
	n := &Nodes{client: client, log: log, answers: answers, running: map[string]*node{}}
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

// Machine that a node is.
func (n *Nodes) Machine(nodeName string) (bootstrap.Machine, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if running := n.running[nodeName]; running != nil {
		return running.machine, true
	}
	return bootstrap.Machine{}, false
}

// keep registers a node and renews its lease until the machine ends.
func (n *Nodes) keep(ctx context.Context, machine bootstrap.Machine) {
	node := kubelet.NewNode(machine, kubelet.Conditions(nil))
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		registered, err := kubelet.Register(ctx, n.client, node)
		if err != nil {
			n.warn(ctx, "registering a node", machine, err)
			return false, nil // it tries again
		}
		node = registered
		return true, nil
	})
	if err != nil {
		return // the machine has ended
	}
	n.pods.wake(machine.Hostname)
	wait.JitterUntilWithContext(ctx, func(ctx context.Context) {
		if err := kubelet.RenewLease(ctx, n.client, node); err != nil {
			n.warn(ctx, "renewing a node's lease", machine, err)
		}
	}, renewal, renewalJitter, true)
}

func (n *Nodes) warn(ctx context.Context, what string, machine bootstrap.Machine, err error) {
	if ctx.Err() == nil {
		n.log.Warn(what, "node", machine.Hostname, "error", err)
	}
}
