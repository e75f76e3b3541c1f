// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// CapacityFault lets each pool that it matches launch Left more instances. Then a launch from the pool fails: RunInstances as a
// whole, a fleet in the Errors beside its instances.
type CapacityFault struct {
	Type      string `json:"type,omitempty"`      // m5.large, or a pattern as m5.*; default: all
	Zone      string `json:"zone,omitempty"`      // default: all
	Lifecycle string `json:"lifecycle,omitempty"` // on-demand or spot; default: both
	Left      int    `json:"left"`
	// Code that EC2 answers; default InsufficientInstanceCapacity.
	Code string `json:"code,omitempty"`
}

const codeNoCapacity = "InsufficientInstanceCapacity"

// poolCodes are answered for a pool of a fleet, with EC2's words for them.
var poolCodes = []string{codeNoCapacity, "UnfulfillableCapacity", "MaxSpotInstanceCountExceeded", "VcpuLimitExceeded", "SpotMaxPriceTooLow", "Unsupported"}

// spotCodes are those of poolCodes that EC2 answers for spot alone.
var spotCodes = []string{"MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow"}

// pool is where instances come from.
type pool struct{ instanceType, zone, lifecycle string }

func (p *launchPlan) pool() pool {
	from := pool{instanceType: string(p.info.InstanceType), zone: p.zone, lifecycle: lifecycleOnDemand}
	if p.spot {
		from.lifecycle = lifecycleSpot
	}
	return from
}

const lifecycleOnDemand, lifecycleSpot = "on-demand", "spot"

func (*CapacityFault) kind() string             { return "capacity" }
func (*CapacityFault) repeats() bool            { return true }
func (*CapacityFault) lasts() bool              { return true }
func (*CapacityFault) end(*Cloud, *activeFault) {}

func (p *CapacityFault) describe() string {
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	text := fmt.Sprintf("%s in %s, %s: %d more", or(p.Type, "every type"), or(p.Zone, "every zone"), or(p.Lifecycle, "on-demand and spot"), p.Left)
	if p.Code != "" {
		text += ", then " + p.Code
	}
	return text
}

func (p *CapacityFault) begin(c *Cloud, f *activeFault) error {
	f.left = map[pool]int{}
	known := false
	for _, name := range instancetypes.Names() {
		matched, err := path.Match(p.Type, name)
		if err != nil {
			return faultError("capacity: type %q: %v", p.Type, err)
		}
		known = known || matched || p.Type == ""
	}
	switch {
	case !known:
		return faultError("capacity: no instance type is %q", p.Type)
	case p.Zone != "" && !c.hasZone(p.Zone):
		return faultError("capacity: there is no zone %q; there are: %s", p.Zone, strings.Join(c.zones(), ", "))
	case p.Lifecycle != "" && p.Lifecycle != lifecycleOnDemand && p.Lifecycle != lifecycleSpot:
		return faultError("capacity: lifecycle %q: use on-demand or spot, or leave it out for both", p.Lifecycle)
	case p.Left < 0:
		return faultError("capacity: left is %d: it must not be negative", p.Left)
	case p.Code != "" && !slices.Contains(poolCodes, p.Code):
		return faultError("capacity: code %q: use one of %s", p.Code, strings.Join(poolCodes, ", "))
	case slices.Contains(spotCodes, p.Code) && p.Lifecycle != lifecycleSpot:
		return faultError("capacity: code %s is about spot: set lifecycle to spot", p.Code)
	case p.Code == "VcpuLimitExceeded" && p.Lifecycle == lifecycleSpot:
		return faultError("capacity: code %s is about on-demand: for spot EC2 answers MaxSpotInstanceCountExceeded", p.Code)
	}
	return nil
}

func (p *CapacityFault) matches(from pool) bool {
	matched, _ := path.Match(p.Type, from.instanceType)
	return (p.Type == "" || matched) && (p.Zone == "" || p.Zone == from.zone) && (p.Lifecycle == "" || p.Lifecycle == from.lifecycle)
}

// remaining is what a fault leaves in a pool.
func (f *activeFault) remaining(from pool) int {
	if left, ok := f.left[from]; ok {
		return left
	}
	return f.Capacity.Left
}

// takeCapacity takes n instances from a pool, or says why there are not so many.
func (c *Cloud) takeCapacity(from pool, n int) error {
	var limits []*activeFault
	var short *activeFault
	c.active(func(f *activeFault) bool {
		if f.Capacity != nil && f.Capacity.matches(from) {
			limits = append(limits, f)
			if f.remaining(from) < n {
				short = f
			}
		}
		return short == nil
	})
	if short != nil {
		err := c.errNoCapacity(from, short.Capacity.Code)
		c.strike(short)
		return err
	}
	for _, f := range limits {
		f.left[from] = f.remaining(from) - n
	}
	return nil
}

// returnCapacity is the reverse of takeCapacity.
func (c *Cloud) returnCapacity(to pool, n int) {
	c.active(func(f *activeFault) bool {
		if f.Capacity != nil && f.Capacity.matches(to) {
			f.left[to] = f.remaining(to) + n
		}
		return true
	})
}

// empty tells whether a pool can launch nothing now.
func (c *Cloud) empty(from pool) bool {
	found := false
	c.active(func(f *activeFault) bool {
		found = f.Capacity != nil && f.Capacity.matches(from) && f.remaining(from) == 0
		return !found
	})
	return found
}

func (c *Cloud) errNoCapacity(from pool, code string) error {
	switch code {
	case "UnfulfillableCapacity":
		return clientError("UnfulfillableCapacity", "Unable to fulfill capacity due to your request configuration. Please adjust your request and try again.")
	case "MaxSpotInstanceCountExceeded":
		return errSpotCount()
	case "VcpuLimitExceeded":
		return errVCPUs(0)
	case "SpotMaxPriceTooLow":
		return clientError("SpotMaxPriceTooLow", "Your Spot request price is lower than the minimum required Spot request fulfillment price.")
	case "Unsupported":
		return clientError("Unsupported", "Your requested instance type (%s) is not supported in your requested Availability Zone (%s). Please retry your request by not specifying an Availability Zone or choosing %s.",
			from.instanceType, from.zone, strings.Join(c.otherZones(from), ", "))
	}
	if from.lifecycle == lifecycleSpot {
		return statusError(500, "InsufficientInstanceCapacity", "There is no Spot capacity available that matches your request.")
	}
	return statusError(500, "InsufficientInstanceCapacity",
		"We currently do not have sufficient %[1]s capacity in the Availability Zone you requested (%[2]s). Our system will be working on provisioning additional capacity. You can currently get %[1]s capacity by not specifying an Availability Zone in your request or choosing %[3]s.",
		from.instanceType, from.zone, strings.Join(c.otherZones(from), ", "))
}

// otherZones are those where a type can be had now.
func (c *Cloud) otherZones(from pool) []string {
	return slices.DeleteFunc(c.zonesOffering(from.instanceType), func(zone string) bool {
		return zone == from.zone || c.empty(pool{from.instanceType, zone, from.lifecycle})
	})
}
