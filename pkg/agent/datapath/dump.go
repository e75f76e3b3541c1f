// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink"
)

// dump asks again when the kernel's tables changed while they were read. What such a reading returns misses entries or has
// them twice, so it is never used.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	const attempts = 10
	for i := 1; ; i++ {
		out, err := list()
		if err == nil {
			return out, nil
		}
		if i == attempts || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, err
		}
		time.Sleep(time.Duration(i) * time.Millisecond) // whoever changes them is at work
	}
}
