// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"net"
	"testing"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// A connection that nobody answered is remembered for 120 s (SYN_SENT), and an address rests for 30 s.
func TestNoConnectionOfAPodOutlivesTheRestOfItsAddress(t *testing.T) {
	w := newWorld(t)
	w.warm(t, 1)
	i := w.launch(t, ec2types.InstanceTypeM5Large)
	i.working(t, 16)
	p := newPods(t, "pod", 1)[0]
	require.NoError(t, i.add(p, 0))
	address := addressesOf([]*pod{p})[0].String()
	remembered := func(t require.TestingT) (n int) {
		require.NoError(t, i.in(func() error {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
			for _, f := range flows {
				if f.Forward.SrcIP.String() == address {
					n++
				}
			}
			return err
		}))
		return n
	}
	require.Error(t, netns.Do(p.netns, func() error {
		_, err := net.DialTimeout("tcp", "198.51.100.200:80", time.Second) // nobody
		return err
	}))
	require.Equal(t, 1, remembered(t))
	require.NoError(t, i.del(p, 0))
	eventually(t, func(c *assert.CollectT) { require.Zero(c, remembered(c)) })
}
