// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is something that goes wrong on demand. Exactly one of its kinds is set. What it raises is what EC2 raises. With one
// order of calls and one seed, it strikes the same calls each time.
type Fault struct {
	ID          string `json:"id,omitempty"`          // given by AddFault
	Description string `json:"description,omitempty"` // default: what the kind says of itself
	// Times is how often it strikes before it is spent; 0: no limit. Faults without single strikes (subnet, outage,
	// instances) have none.
	Times int `json:"times,omitempty"`
	// For is how long it lasts; 0: until it is removed.
	For Duration `json:"for,omitzero"`
	// Seed of what is random about it. 0: the account's seed and the fault's number.
	Seed uint64 `json:"seed,omitempty"`

	Capacity        *CapacityFault        `json:"capacity,omitempty"`
	Subnet          *SubnetFault          `json:"subnet,omitempty"`
	Latency         *LatencyFault         `json:"latency,omitempty"`
	Throttle        *ThrottleFault        `json:"throttle,omitempty"`
	Error           *ErrorFault           `json:"error,omitempty"`
	LostReply       *LostReplyFault       `json:"lostReply,omitempty"`
	MetadataLag     *MetadataLagFault     `json:"metadataLag,omitempty"`
	MetadataError   *MetadataErrorFault   `json:"metadataError,omitempty"`
	Kill            *KillFault            `json:"kill,omitempty"`
	Interrupt       *InterruptFault       `json:"interrupt,omitempty"`
	ScheduledChange *ScheduledChangeFault `json:"scheduledChange,omitempty"`
	Outage          *OutageFault          `json:"outage,omitempty"`

	Since  time.Time `json:"since,omitzero"`   // when it was added
	Struck int       `json:"struck,omitempty"` // how often so far
	Over   bool      `json:"over,omitempty"`   // it was spent, or its time has passed
	// Problem is what went wrong when it ended.
	Problem string `json:"problem,omitempty"`
}

// effect is a kind of fault. Its methods are called under the lock of the account.
type effect interface {
	kind() string
	describe() string
	// repeats tells whether single strikes can be counted, lasts whether the fault can be ended.
	repeats() bool
	lasts() bool
	// begin checks the fault against the account and starts it.
	begin(*Cloud, *activeFault) error
	end(*Cloud, *activeFault)
}

// activeFault is a fault with what it has done so far.
type activeFault struct {
	Fault
	effect
	random  *rand.Rand
	timer   *time.Timer
	bucket  bucket              // of ThrottleFault
	left    map[pool]int        // of CapacityFault
	foreign []*networkInterface // of SubnetFault
}

// maxFaults bounds the list: the oldest that are over are forgotten.
const maxFaults = 1000

// ErrFault is wrapped by the errors of faults that cannot be had: a bad request.
var ErrFault = errors.New("fault")

func faultError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrFault}, args...)...)
}

// kinds returns those that are set.
func (f *Fault) kinds() []effect {
	var set []effect
	add := func(is bool, e effect) {
		if is {
			set = append(set, e)
		}
	}
	add(f.Capacity != nil, f.Capacity)
	add(f.Subnet != nil, f.Subnet)
	add(f.Latency != nil, f.Latency)
	add(f.Throttle != nil, f.Throttle)
	add(f.Error != nil, f.Error)
	add(f.LostReply != nil, f.LostReply)
	add(f.MetadataLag != nil, f.MetadataLag)
	add(f.MetadataError != nil, f.MetadataError)
	add(f.Kill != nil, f.Kill)
	add(f.Interrupt != nil, f.Interrupt)
	add(f.ScheduledChange != nil, f.ScheduledChange)
	add(f.Outage != nil, f.Outage)
	return set
}

const faultKinds = "capacity, subnet, latency, throttle, error, lostReply, metadataLag, metadataError, kill, interrupt, scheduledChange, outage"

// Kind is the name of what is set, "" when nothing is.
func (f *Fault) Kind() string {
	if set := f.kinds(); len(set) == 1 {
		return set[0].kind()
	}
	return ""
}

func (f *Fault) check() (effect, error) {
	set := f.kinds()
	if len(set) != 1 {
		return nil, faultError("it has %d kinds: set one of %s", len(set), faultKinds)
	}
	e := set[0]
	switch {
	case f.ID != "" || f.Struck != 0 || f.Over || f.Problem != "" || !f.Since.IsZero():
		return nil, faultError("id, since, struck, over and problem are for answers: leave them out")
	case f.Times < 0:
		return nil, faultError("times is %d: it must not be negative", f.Times)
	case f.For < 0:
		return nil, faultError("for is %s: it must not be negative", time.Duration(f.For))
	case f.Times > 0 && !e.repeats():
		return nil, faultError("%s has no single strikes: leave out times", e.kind())
	case f.For > 0 && !e.lasts():
		return nil, faultError("%s cannot be taken back: leave out for", e.kind())
	}
	return e, nil
}

// AddFault starts a fault and returns it with its id.
func (c *Cloud) AddFault(f Fault) (Fault, error) {
	e, err := f.check()
	if err != nil {
		return Fault{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faultsEver++
	f.ID = "fault-" + strconv.Itoa(c.faultsEver)
	f.Since = time.Now().UTC().Truncate(time.Second)
	if f.Description == "" {
		f.Description = e.describe()
	}
	seed := f.Seed
	if seed == 0 {
		seed = c.seed + uint64(c.faultsEver)
	}
	active := &activeFault{Fault: f, effect: e, random: rand.New(rand.NewPCG(seed, 1))}
	if err := e.begin(c, active); err != nil {
		return Fault{}, err
	}
	if !e.lasts() {
		active.Struck, active.Over = 1, true
	}
	if f.For > 0 {
		active.timer = time.AfterFunc(time.Duration(f.For), func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.finish(active)
		})
	}
	c.faults = append(c.faults, active)
	if i := slices.IndexFunc(c.faults, func(f *activeFault) bool { return f.Over }); len(c.faults) > maxFaults && i >= 0 {
		c.faults = slices.Delete(c.faults, i, i+1)
	}
	c.changed()
	return active.Fault, nil
}

// Faults returns all that were added and not removed, those that are over among them, in the order of their start.
func (c *Cloud) Faults() []Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]Fault, len(c.faults))
	for i, f := range c.faults {
		list[i] = f.Fault
	}
	return list
}

// RemoveFault ends a fault and forgets it.
func (c *Cloud) RemoveFault(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.faults, func(f *activeFault) bool { return f.ID == id })
	if i < 0 {
		var ids []string
		for _, f := range c.faults {
			ids = append(ids, f.ID)
		}
		return faultError("there is no %q; there are: %s", id, strings.Join(ids, ", "))
	}
	c.finish(c.faults[i])
	c.faults = slices.Delete(c.faults, i, i+1)
	return nil
}

// ClearFaults ends and forgets all.
func (c *Cloud) ClearFaults() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range slices.Backward(c.faults) {
		c.finish(f)
	}
	c.faults = nil
}

// strike counts one, and ends a fault that is spent by it.
func (c *Cloud) strike(f *activeFault) {
	f.Struck++
	if f.Times > 0 && f.Struck >= f.Times {
		c.finish(f)
	}
}

// finish ends a fault. The caller holds the lock.
func (c *Cloud) finish(f *activeFault) {
	if f.timer != nil {
		f.timer.Stop()
	}
	if f.Over {
		return
	}
	f.Over = true
	f.end(c, f)
	c.changed()
}

// active calls visit with each fault that is not over, until it answers false.
func (c *Cloud) active(visit func(*activeFault) bool) {
	for _, f := range c.faults {
		if !f.Over && !visit(f) {
			return
		}
	}
}

// Duration in JSON is text, as "1m30s".
type Duration time.Duration

// MarshalText is for JSON.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText is for JSON.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// ParseSpan reads "2s", or "1s-3s" for something in between.
func ParseSpan(text string) (Span, error) {
	low, high, ranged := strings.Cut(text, "-")
	if !ranged {
		high = low
	}
	var s Span
	var err error
	if s.Min, err = time.ParseDuration(low); err == nil {
		s.Max, err = time.ParseDuration(high)
	}
	if err != nil || s.Min < 0 || s.Max < s.Min {
		return Span{}, fmt.Errorf("%q is no time: write 2s, or 1s-3s for something in between", text)
	}
	return s, nil
}

// MarshalText is for JSON.
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is for JSON.
func (s *Span) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSpan(string(text))
	return err
}

func (s Span) String() string {
	if s.Max <= s.Min {
		return s.Min.String()
	}
	return s.Min.String() + "-" + s.Max.String()
}
