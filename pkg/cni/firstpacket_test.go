// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/cni"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// TestAPodsFirstPacketIsNotLost sends as soon as ADD has ended, while others keep the kernel's lock of links busy: the work that lets
// a link send waits for it.
func TestAPodsFirstPacketIsNotLost(t *testing.T) {
	dir := node(t, "100.64.0.16/28")
	server, err := net.ListenPacket("udp4", "10.0.0.10:0")
	require.NoError(t, err)
	defer server.Close()
	require.NoError(t, netns.Sysctl("ipv4/ip_forward", "1"))

	stop, stopped := make(chan struct{}), make(chan struct{})
	busy := "/run/netns/busy"
	require.NoError(t, netns.Create(busy))
	defer func() {
		close(stop)
		<-stopped
		require.NoError(t, netns.Delete(busy))
	}()
	go func() {
		defer close(stopped)
		assert.NoError(t, netns.Do(busy, func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				attrs := netlink.NewLinkAttrs()
				attrs.Name = "busy"
				link := &netlink.Veth{LinkAttrs: attrs, PeerName: "ybus"}
				if err := netlink.LinkAdd(link); err != nil {
					return err
				}
				if err := netlink.LinkDel(link); err != nil {
					return err
				}
			}
		}))
	}()

	rule := netlink.NewRule()
	rule.Priority, rule.Table = 512, 512
	require.NoError(t, netlink.RuleAdd(rule))
	defer func() { require.NoError(t, netlink.RuleDel(rule)) }()
	const pods = 12
	for n := range pods {
		args := call(t, dir)
		_, err := add(t, args)
		require.NoError(t, err)
		require.NoError(t, netns.Do(args.Netns, func() error {
			conn, err := net.Dial("udp4", server.LocalAddr().String())
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write([]byte(strconv.Itoa(n)))
			return err
		}))
		buffer := make([]byte, 8)
		require.NoError(t, server.SetReadDeadline(time.Now().Add(time.Second)))
		_, _, err = server.ReadFrom(buffer)
		assert.NoError(t, err, "the first packet of pod %d", n)
		require.NoError(t, cni.Del(args))
	}
}
