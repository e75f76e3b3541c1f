// SPDX-License-Identifier: Apache-2.0

package vpc_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

// countUDP listens in a namespace and tells the size of each datagram.
func countUDP(t *testing.T, path, address string) <-chan int {
	t.Helper()
	sizes := make(chan int, 10)
	require.NoError(t, netns.Do(path, func() error {
		server, err := net.ListenPacket("udp4", address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { server.Close() })
		go func() {
			buffer := make([]byte, 1<<16)
			for {
				size, _, err := server.ReadFrom(buffer)
				if err != nil {
					return
				}
				sizes <- size
			}
		}()
		return nil
	}))
	return sizes
}

// sendWhole sends a datagram that must not be fragmented, and returns what the path's MTU is known to be after up to a
// second for an error to arrive.
func sendWhole(path, address string, size int) (mtu int, err error) {
	err = netns.Do(path, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		to := netip.MustParseAddrPort(address)
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}),
			unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}),
		)
		if err != nil {
			return err
		}
		if _, err := unix.Write(fd, make([]byte, size)); err != nil && !errors.Is(err, unix.EMSGSIZE) {
			return err
		}
		if _, err := unix.Read(fd, make([]byte, 1)); err == nil {
			return errors.New("nobody answers here")
		}
		mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
		return err
	})
	return mtu, err
}

func TestLargePacketsPassWithinTheVPCAndNotToTheInternet(t *testing.T) {
	const headers = 28
	n := start(t)
	s := twoInstances()
	s.Interfaces[1].Public = netip.MustParseAddr("198.51.100.20")
	s.Subnets[1].RouteTableID = "rtb-public"
	s.Subnets[2].RouteTableID = "rtb-private"
	require.NoError(t, n.Apply(s))
	inside := countUDP(t, n.InstancePath("i-b"), "10.0.1.10:53")
	outside := countUDP(t, n.InternetPath(), vpc.InternetHost.String()+":53")
	internet := vpc.InternetHost.String() + ":53"
	sources := map[string]string{
		"an instance behind a NAT gateway": n.InstancePath("i-a"), "an instance with a public address": n.InstancePath("i-b"),
		"a pod": pod(t, n, "i-a", "100.64.0.20"),
	}

	mtu, err := sendWhole(sources["a pod"], "10.0.1.10:53", vpc.MTU-headers)
	require.NoError(t, err)
	require.Equal(t, vpc.MTU, mtu)
	require.Equal(t, vpc.MTU-headers, receive(t, inside))

	for name, path := range sources {
		t.Run(name, func(t *testing.T) {
			mtu, err := sendWhole(path, internet, vpc.MTU-headers)
			require.NoError(t, err)
			require.Equal(t, vpc.InternetMTU, mtu, "an ICMP error tells it")
			_, err = sendWhole(path, internet, vpc.InternetMTU-headers)
			require.NoError(t, err)
			require.Equal(t, vpc.InternetMTU-headers, receive(t, outside))
		})
	}
}

func receive(t *testing.T, sizes <-chan int) int {
	t.Helper()
	select {
	case size := <-sizes:
		return size
	case <-time.After(5 * time.Second):
		require.Fail(t, "nothing arrives")
		return 0
	}
}
