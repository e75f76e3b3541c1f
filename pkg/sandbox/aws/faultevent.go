// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"maps"
	"slices"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// once is what the faults that happen at a moment have in common: nothing of them can be counted or taken back.
type once struct{}

func (once) repeats() bool            { return false }
func (once) lasts() bool              { return false }
func (once) end(*Cloud, *activeFault) {}

// InterruptFault lets AWS take a spot instance back: first the warning in queues and metadata, then, after the notice of the profile,
// the instance's end. With Rebalance there is only the recommendation that comes before a warning.
type InterruptFault struct {
	once

	Instance  string `json:"instance"`
	Rebalance bool   `json:"rebalance,omitempty"`
}

// ScheduledChangeFault lets AWS announce maintenance of an instance. The maintenance itself does not take place.
type ScheduledChangeFault struct {
	once

	Instance string   `json:"instance"`
	Event    string   `json:"event"`       // an EC2 event code, as instance-retirement
	In       Duration `json:"in,omitzero"` // default: now
}

func (*InterruptFault) kind() string       { return "interrupt" }
func (*ScheduledChangeFault) kind() string { return "scheduledChange" }

func (f *InterruptFault) describe() string {
	if f.Rebalance {
		return f.Instance + " is recommended for rebalancing"
	}
	return f.Instance + " is interrupted"
}

func (f *ScheduledChangeFault) describe() string {
	return fmt.Sprintf("%s of %s in %s", f.Event, f.Instance, time.Duration(f.In))
}

func (f *InterruptFault) begin(c *Cloud, _ *activeFault) error {
	if c.instances.get(f.Instance) == nil {
		return errNoInstance(f.Instance)
	}
	tell := c.interruptSpot
	if f.Rebalance {
		tell = c.rebalance
	}
	if err := tell(f.Instance); err != nil {
		return faultError("interrupt: %s", asAPIError(err).message)
	}
	return nil
}

func (f *ScheduledChangeFault) begin(c *Cloud, _ *activeFault) error {
	if codes := slices.Sorted(maps.Keys(healthCodes)); !slices.Contains(codes, ec2types.EventCode(f.Event)) {
		return faultError("scheduledChange: event %q: use one of %s", f.Event, codes)
	}
	if f.In < 0 {
		return faultError("scheduledChange: in is %s: it must not be negative", time.Duration(f.In))
	}
	if c.instances.get(f.Instance) == nil {
		return errNoInstance(f.Instance)
	}
	if err := c.scheduleChange(f.Instance, f.Event, time.Duration(f.In)); err != nil {
		return faultError("scheduledChange: %s", asAPIError(err).message)
	}
	return nil
}
