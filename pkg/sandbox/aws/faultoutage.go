// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// OutageFault stops a component of the cluster's control plane until the fault ends.
type OutageFault struct {
	Component string `json:"component"`
	// Kill ends the component, and starts it again on the same data; otherwise it stands still, and its connections stay open.
	Kill bool `json:"kill,omitempty"`
}

// Component of a cluster that can be stopped. Start comes after Stop, Resume after Pause; neither waits until it is ready.
type Component interface {
	Pause() error
	Resume() error
	Stop() error
	Start() error
}

// SetComponent names a component for outages.
func (c *Cloud) SetComponent(name string, component Component) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.components[name] = component
}

func (*OutageFault) kind() string  { return "outage" }
func (*OutageFault) repeats() bool { return false }
func (*OutageFault) lasts() bool   { return true }

func (o *OutageFault) describe() string {
	if o.Kill {
		return o.Component + " is not there"
	}
	return o.Component + " stands still"
}

func (o *OutageFault) begin(c *Cloud, _ *activeFault) error {
	component, ok := c.components[o.Component]
	if !ok {
		if len(c.components) == 0 {
			return faultError("outage: there is no control plane here: only a whole sandbox has one")
		}
		return faultError("outage: there is no component %q; there are: %s", o.Component, strings.Join(slices.Sorted(maps.Keys(c.components)), ", "))
	}
	other := ""
	c.active(func(f *activeFault) bool {
		if f.Outage != nil && f.Outage.Component == o.Component {
			other = f.ID
		}
		return other == ""
	})
	if other != "" {
		return faultError("outage: %s is stopped by %s", o.Component, other)
	}
	stop := component.Pause
	if o.Kill {
		stop = component.Stop
	}
	if err := stop(); err != nil {
		return fmt.Errorf("stopping %s: %w", o.Component, err)
	}
	return nil
}

// end does not wait for the component to be ready.
func (o *OutageFault) end(c *Cloud, f *activeFault) {
	start := c.components[o.Component].Resume
	if o.Kill {
		start = c.components[o.Component].Start
	}
	if err := start(); err != nil {
		f.Problem = fmt.Sprintf("starting %s: %v", o.Component, err)
	}
}
