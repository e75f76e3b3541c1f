// SPDX-License-Identifier: Apache-2.0

package aws

import "time"

// bucket is a token bucket. Refill may be below one a second, hence fractions of tokens.
type bucket struct {
	capacity, refill float64 // tokens, tokens a second
	level            float64
	at               time.Time // of level; zero: full
}

func (b *bucket) take(tokens float64, now time.Time) bool {
	if b.at.IsZero() {
		b.level = b.capacity
	} else {
		b.level = min(b.capacity, b.level+now.Sub(b.at).Seconds()*b.refill)
	}
	b.at = now
	if b.level < tokens {
		return false
	}
	b.level -= tokens
	return true
}

// limit is the size of an action's request bucket. Each action has its own, per account and Region.
type limit struct{ capacity, refill float64 }

// EC2 API throttling, as documented on "Request throttling for the Amazon EC2 API".
var (
	limitRead        = limit{100, 20}
	limitUnpaginated = limit{50, 10} // some Describe actions with neither filter nor pagination
	limitWrite       = limit{50, 5}

	limits = map[string]limit{
		"RunInstances":                    {5, 2},
		"TerminateInstances":              {100, 5},
		"CreateNetworkInterface":          {100, 5},
		"DeleteNetworkInterface":          {100, 5},
		"ModifyNetworkInterfaceAttribute": {100, 5},
		"AssignPrivateIpAddresses":        {100, 5},
		"UnassignPrivateIpAddresses":      {100, 5},
		"CreateLaunchTemplateVersion":     {100, 5},
		"ModifyLaunchTemplate":            {100, 5},
		"ModifyInstanceMetadataOptions":   {100, 5},
		"CreateTags":                      {100, 10},
		"DeleteTags":                      {100, 10},
		"CreateSubnetCidrReservation":     {5, 1},
		"DeleteSubnetCidrReservation":     {5, 1},
	}
	// resourceLimits count instances instead of requests. A request must pass both buckets.
	resourceLimits = map[string]limit{
		"RunInstances":       {1000, 2},
		"TerminateInstances": {1000, 20},
	}
	// smallerUnfiltered are the actions that use limitUnpaginated when called with neither filter nor pagination.
	smallerUnfiltered = map[string]bool{
		"DescribeInstances": true, "DescribeInstanceStatus": true, "DescribeNetworkInterfaces": true,
		"DescribeSecurityGroups": true, "DescribeVolumes": true,
	}
)

// throttle is the buckets of an account.
type throttle map[string]*bucket

// allow takes a token for a request, and one for each instance it is about.
func (t throttle) allow(action string, mutating, unfiltered bool, instances int, now time.Time) bool {
	key, size := action, limitRead
	switch l, special := limits[action]; {
	case special:
		size = l
	case mutating:
		size = limitWrite
	case unfiltered && smallerUnfiltered[action]:
		key, size = action+"/unfiltered", limitUnpaginated
	}
	if !t.bucket(key, size).take(1, now) {
		return false
	}
	if size, ok := resourceLimits[action]; ok {
		return t.bucket(action+"/resources", size).take(float64(instances), now)
	}
	return true
}

func (t throttle) bucket(key string, size limit) *bucket {
	b := t[key]
	if b == nil {
		b = &bucket{capacity: size.capacity, refill: size.refill}
		t[key] = b
	}
	return b
}
