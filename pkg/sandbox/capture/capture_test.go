// SPDX-License-Identifier: Apache-2.0

package capture_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/capture"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// pair of links whose first end sends to the second without asking for its MAC.
func pair(t *testing.T, name, address, neighbor string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "-peer"}))
	for _, end := range []string{name, name + "-peer"} {
		link, err := netlink.LinkByName(end)
		require.NoError(t, err)
		require.NoError(t, netlink.LinkSetUp(link))
		if end == name {
			address, err := netlink.ParseAddr(address)
			require.NoError(t, err)
			require.NoError(t, netlink.AddrAdd(link, address))
			require.NoError(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: net.ParseIP(neighbor), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}, State: netlink.NUD_PERMANENT}))
			t.Cleanup(func() { _ = netlink.LinkDel(link) })
		}
	}
}

// packets of a pcap file.
func packets(t *testing.T, file []byte) [][]byte {
	t.Helper()
	require.GreaterOrEqual(t, len(file), 24)
	require.Equal(t, []byte{0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0}, file[:8])
	require.Equal(t, uint32(1), binary.LittleEndian.Uint32(file[20:]), "Ethernet")
	var all [][]byte
	for rest := file[24:]; len(rest) > 0; {
		at := time.Unix(int64(binary.LittleEndian.Uint32(rest)), int64(binary.LittleEndian.Uint32(rest[4:])))
		require.WithinDuration(t, time.Now(), at, time.Hour)
		size := binary.LittleEndian.Uint32(rest[8:])
		require.Equal(t, size, binary.LittleEndian.Uint32(rest[12:]))
		all = append(all, rest[16:16+size])
		rest = rest[16+size:]
	}
	return all
}

// send a datagram to addresses, in turn, until done.
func send(t *testing.T, done <-chan struct{}, payload string, addresses ...string) {
	t.Helper()
	for {
		for _, address := range addresses {
			conn, err := net.Dial("udp4", address+":9")
			require.NoError(t, err)
			_, err = io.WriteString(conn, payload)
			require.NoError(t, err)
			conn.Close()
		}
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func TestACaptureOfTwoLinksHasThePacketsOfBoth(t *testing.T) {
	pair(t, "one", "10.9.1.1/24", "10.9.1.2")
	pair(t, "two", "10.9.2.1/24", "10.9.2.2")
	var file bytes.Buffer
	done := make(chan struct{})
	var stats capture.Stats
	var err error
	go func() {
		defer close(done)
		stats, err = capture.Links(t.Context(), &file, 40, "one", "two")
	}()
	send(t, done, "hello", "10.9.1.2", "10.9.2.2")
	require.NoError(t, err)
	require.Equal(t, 40, stats.Packets)
	all := packets(t, file.Bytes())
	require.Len(t, all, 40)
	for _, destination := range []net.IP{{10, 9, 1, 2}, {10, 9, 2, 2}} {
		require.True(t, contains(all, []byte(destination), []byte("hello")), destination)
	}
}

func contains(packets [][]byte, parts ...[]byte) bool {
	for _, packet := range packets {
		all := true
		for _, part := range parts {
			all = all && bytes.Contains(packet, part)
		}
		if all {
			return true
		}
	}
	return false
}

func TestACaptureEndsWithItsContextAndWithItsLink(t *testing.T) {
	for name, end := range map[string]func(cancel func()){
		"context": func(cancel func()) { cancel() },
		"link": func(func()) {
			link, err := netlink.LinkByName("gone")
			require.NoError(t, err)
			require.NoError(t, netlink.LinkDel(link))
		},
	} {
		t.Run(name, func(t *testing.T) {
			pair(t, "gone", "10.9.3.1/24", "10.9.3.2")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			reader, writer := io.Pipe()
			result := make(chan error, 1)
			go func() {
				_, err := capture.Links(ctx, writer, 0, "gone")
				writer.Close()
				result <- err
			}()
			_, err := io.ReadFull(reader, make([]byte, 24)) // it listens
			require.NoError(t, err)
			go func() { _, _ = io.Copy(io.Discard, reader) }()
			end(cancel)
			require.NoError(t, <-result)
		})
	}
}

func TestALinkThatIsNotThereIsNamed(t *testing.T) {
	_, err := capture.Links(t.Context(), io.Discard, 0, "nowhere")
	require.ErrorContains(t, err, "nowhere")
}
