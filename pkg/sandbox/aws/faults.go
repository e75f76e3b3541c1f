// SPDX-License-Identifier: Apache-2.0

package aws

// Pool is where instances come from. Lifecycle is "on-demand" or "spot".
type Pool struct{ InstanceType, Zone, Lifecycle string }

// SetCapacity lets a pool launch n more instances, then answer InsufficientInstanceCapacity; n < 0 lifts the limit.
func (c *Cloud) SetCapacity(p Pool, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n < 0 {
		delete(c.capacity, p)
		return
	}
	c.capacity[p] = n
}

// Fault is an error that calls of Action answer instead of what they would.
type Fault struct {
	Action        string // EC2 action
	Code, Message string
	Status        int  // HTTP; default 400
	Times         int  // how many calls; default 1
	AfterEffect   bool // the call does its work first: to the caller, a lost reply
}

// Inject adds a fault. Faults of an action are used up in the order they were added.
func (c *Cloud) Inject(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.Status == 0 {
		f.Status = 400
	}
	if f.Times == 0 {
		f.Times = 1
	}
	c.faults = append(c.faults, &f)
}

// fault takes one use of the first fault for an action, nil when there is none.
func (c *Cloud) fault(action string) *Fault {
	for _, f := range c.faults {
		if f.Action == action && f.Times > 0 {
			f.Times--
			return f
		}
	}
	return nil
}

func (f *Fault) err() error { return statusError(f.Status, f.Code, "%s", f.Message) }
