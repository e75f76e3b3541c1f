// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/process"
)

// Component is one program of a control plane. It can be away for a while: paused, when its connections stay open and nothing
// answers, or stopped, when they break and new ones are refused.
//
// One that ends unasked is started again, as the kubelet of a control plane's machine does: kube-controller-manager ends when
// it meets an outage of the API server while it starts.
type Component struct {
	params process.Params
	failed chan<- *process.Process // gets one that is not started again

	mu         sync.Mutex
	process    *process.Process
	stopped    bool
	supervised bool        // from when the control plane is ready on
	restarts   []time.Time // the last ones
}

const (
	// restartDelay keeps a component that ends at once from using up the machine.
	restartDelay = time.Second
	// One that is started again so often within restartPeriod is broken.
	maxRestarts   = 10
	restartPeriod = time.Minute
)

// Start starts the component, on the data that it had, and does not wait until it is ready.
func (c *Component) Start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil && !c.stopped {
		return fmt.Errorf("%s runs already", c.params.Name)
	}
	return c.start()
}

func (c *Component) start() error {
	started, err := process.Start(c.params)
	if err != nil {
		return err
	}
	c.process, c.stopped = started, false
	go c.follow(started)
	return nil
}

// follow waits for the end of a process, and puts another in its place.
func (c *Component) follow(ended *process.Process) {
	<-ended.Done()
	if c.mayRestart(ended) {
		time.Sleep(restartDelay)
		if c.restart(ended) == nil {
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != ended || c.stopped {
		return
	}
	select {
	case c.failed <- ended:
	default: // one is enough
	}
}

func (c *Component) mayRestart(ended *process.Process) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != ended || c.stopped || !c.supervised {
		return false
	}
	c.restarts = slices.DeleteFunc(c.restarts, func(t time.Time) bool { return time.Since(t) > restartPeriod })
	c.restarts = append(c.restarts, time.Now())
	return len(c.restarts) <= maxRestarts
}

// restart does nothing when the component was stopped, or stopped and started, meanwhile.
func (c *Component) restart(ended *process.Process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != ended || c.stopped {
		return nil
	}
	return c.start()
}

func (c *Component) supervise() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.supervised = true
}

// Stop ends the component as a machine's end does: it says goodbye to nobody.
func (c *Component) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil || c.stopped {
		return fmt.Errorf("%s does not run", c.params.Name)
	}
	c.stopped = true
	c.process.Kill()
	return nil
}

// Pause lets the component stand still until Resume.
func (c *Component) Pause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process.Pause()
}

// Resume lets a component go on that was paused.
func (c *Component) Resume() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process.Resume()
}

// PID of the component's process.
func (c *Component) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process.PID()
}

// Components by their names without kube: etcd, apiserver, and with controllers controller-manager and scheduler.
func (cp *ControlPlane) Components() map[string]*Component {
	byName := map[string]*Component{}
	for _, c := range cp.components {
		byName[strings.TrimPrefix(c.params.Name, "kube-")] = c
	}
	return byName
}
