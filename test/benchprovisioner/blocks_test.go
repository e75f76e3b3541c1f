// SPDX-License-Identifier: Apache-2.0

package benchprovisioner

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// countBlocks counts what 5,000 ENIs leave of a /16, each with the prefixes of 110 pods.
func countBlocks(*testing.T) figure {
	random := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // the same in each run
	anywhere := func(bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(random.IntN(256)), byte(random.IntN(256))}), bits).Masked()
	}
	enis := make([]podnetwork.ENI, 5000)
	for i := range enis {
		enis[i] = podnetwork.ENI{Instance: fmt.Sprint("i-", i), Addresses: []netip.Prefix{anywhere(32)}}
		for range 7 { // they overlap, which changes nothing here
			enis[i].Prefixes = append(enis[i].Prefixes, anywhere(28))
		}
	}
	var s samples
	for range *lists {
		start := time.Now()
		podnetwork.NewSnapshot("subnet-1", netip.MustParsePrefix("100.64.0.0/16"), enis, podnetwork.Reservations{}, time.Time{})
		s.add(time.Since(start), allocation{})
	}
	return s.figure("free blocks of a /16 with 5,000 ENIs", nil, 0)
}
