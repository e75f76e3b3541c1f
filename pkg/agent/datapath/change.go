// SPDX-License-Identifier: Apache-2.0

package datapath

import "fmt"

// Kind of object in the kernel.
type Kind string

// Kinds.
const (
	KindLink     Kind = "link"
	KindAddress  Kind = "address"
	KindSysctl   Kind = "sysctl"
	KindRoute    Kind = "route"
	KindRule     Kind = "rule"
	KindNftables Kind = "nftables"
)

// Kinds are all of them.
func Kinds() []Kind {
	return []Kind{KindLink, KindAddress, KindSysctl, KindRoute, KindRule, KindNftables}
}

// Change of the kernel.
type Change struct {
	Kind Kind `json:"kind"`
	// Removed: the object was there and is not wanted. Otherwise it was missing, or other than wanted.
	Removed bool `json:"removed,omitempty"`
	// Object as a person knows it: "1536: from 100.64.0.0/28 ... lookup 1001".
	Object string `json:"object"`
}

func (c Change) String() string {
	if c.Removed {
		return fmt.Sprintf("removed %s %s", c.Kind, c.Object)
	}
	return fmt.Sprintf("set %s %s", c.Kind, c.Object)
}

// set makes the kernel hold an object. A comparison only notes that it does not.
func (a *applier) set(kind Kind, object string, change func() error) error {
	return a.do(Change{Kind: kind, Object: object}, change)
}

func (a *applier) remove(kind Kind, object string, change func() error) error {
	return a.do(Change{Kind: kind, Removed: true, Object: object}, change)
}

func (a *applier) do(c Change, change func() error) error {
	if !a.compareOnly {
		if err := change(); err != nil {
			return err
		}
	}
	a.changes = append(a.changes, c)
	return nil
}
