// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Span is a range of durations; a latency is drawn from it uniformly, from the seed of Options.
type Span struct{ Min, Max time.Duration }

func (s Span) draw(r *rand.Rand) time.Duration {
	if s.Max <= s.Min {
		return s.Min
	}
	return s.Min + time.Duration(r.Int64N(int64(s.Max-s.Min)))
}

// Profile says how long things take. The zero Profile makes every transition immediate.
type Profile struct {
	Read         Span          // a Describe, Get or List call
	Write        Span          // a mutating call
	Launch       Span          // CreateFleet and RunInstances
	Boot         Span          // instance: pending to running
	Shutdown     Span          // instance: shutting-down to terminated
	Attach       Span          // interface: attaching to attached, and its link in the guest
	Detach       Span          // interface: detaching to available
	Associate    Span          // VPC CIDR block: associating to associated; NAT gateway: pending to available
	Metadata     Span          // IMDS lags behind EC2 by this after addresses of an attached interface change
	Propagation  Span          // a new instance, interface, subnet or security group is unknown to other calls this long
	SpotNotice   time.Duration // from the warning of a spot interruption to the instance's end
	Terminated   time.Duration // a terminated instance is still described this long
	RequestLimit bool          // the API's token buckets (RequestLimitExceeded)
}

// Fast keeps the order of events and every limit, and shortens the waits so that a demonstration and tests
// run in seconds.
func Fast() Profile {
	ms := func(low, high int) Span {
		return Span{time.Duration(low) * time.Millisecond, time.Duration(high) * time.Millisecond}
	}
	return Profile{
		Read: ms(5, 15), Write: ms(10, 30), Launch: ms(30, 60),
		Boot: ms(500, 1000), Shutdown: ms(200, 500), Attach: ms(250, 350), Detach: ms(250, 350),
		Associate: ms(100, 200), Metadata: ms(20, 50), Propagation: ms(20, 50),
		SpotNotice: 10 * time.Second, Terminated: time.Minute, RequestLimit: true,
	}
}

// Realistic has the waits of EC2: about 16 s from launch to a running machine
// (kubernetes-sigs/karpenter#3102), up to 10 s for an attachment (amazon-vpc-cni-k8s
// docs/eni-and-ip-target.md), under a second for a prefix on an attached interface.
func Realistic() Profile {
	ms := func(low, high int) Span {
		return Span{time.Duration(low) * time.Millisecond, time.Duration(high) * time.Millisecond}
	}
	return Profile{
		Read: ms(60, 250), Write: ms(150, 600), Launch: ms(1200, 2500),
		Boot: ms(12_000, 18_000), Shutdown: ms(20_000, 40_000), Attach: ms(2000, 9000), Detach: ms(2000, 6000),
		Associate: ms(3000, 10_000), Metadata: ms(300, 1000), Propagation: ms(200, 1500),
		SpotNotice: 2 * time.Minute, Terminated: time.Hour, RequestLimit: true,
	}
}

// ProfileByName returns the profile of the flag values "fast" and "aws".
func ProfileByName(name string) (Profile, error) {
	switch name {
	case "fast":
		return Fast(), nil
	case "aws":
		return Realistic(), nil
	}
	return Profile{}, fmt.Errorf("unknown latency profile %q: use fast or aws", name)
}
