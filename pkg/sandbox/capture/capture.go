// SPDX-License-Identifier: Apache-2.0

// Package capture writes the packets of links to a pcap file, as tcpdump does.
package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// receiveBuffer of a link's socket, in bytes: what may arrive before it is written.
const receiveBuffer = 8 << 20

// Stats of a capture that is over.
type Stats struct {
	Packets int // written
	Lost    int // that arrived faster than they were written
}

// Links writes what the links of the calling thread's namespace carry, in both directions, until the context ends, until
// there are as many packets as wanted (0: no limit), or until no link is there any more. The header is written once all links
// are listened to. Packets that the kernel sent to another namespace have no checksums yet, and may be larger than the MTU.
func Links(ctx context.Context, w io.Writer, count int, names ...string) (Stats, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	c := &capture{w: w, count: count, stop: stop}
	var sockets []*os.File
	for _, name := range names {
		socket, err := listen(name)
		if err != nil {
			return Stats{}, fmt.Errorf("listening on %s: %w", name, err)
		}
		defer socket.Close()
		sockets = append(sockets, socket)
	}
	if err := writeHeader(w); err != nil {
		return Stats{}, err
	}
	var running sync.WaitGroup
	errs := make([]error, len(sockets))
	for i, socket := range sockets {
		running.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = socket.SetReadDeadline(time.Now()) })()
			errs[i] = c.copy(socket)
		})
	}
	running.Wait()
	for _, socket := range sockets {
		c.stats.Lost += lost(socket)
	}
	return c.stats, errors.Join(errs...)
}

// capture of several links into one file.
type capture struct {
	count int
	stop  func()

	mu    sync.Mutex
	w     io.Writer
	stats Stats
}

// copy packets until the socket's deadline.
func (c *capture) copy(socket *os.File) error {
	packet := make([]byte, snapLength)
	for {
		size, err := socket.Read(packet)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENODEV):
			return nil // the link may go while it is listened to
		case err != nil:
			return err
		}
		if err := c.write(packet[:size]); err != nil {
			c.stop()
			return err
		}
	}
}

func (c *capture) write(packet []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count > 0 && c.stats.Packets == c.count {
		return nil // another link had the last one
	}
	if err := writePacket(c.w, time.Now(), packet); err != nil {
		return err
	}
	c.stats.Packets++
	if c.stats.Packets == c.count {
		c.stop()
	}
	return nil
}

// listen to all that a link carries.
func listen(name string) (*os.File, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0) // of no protocol, until it is bound
	if err != nil {
		return nil, err
	}
	socket := os.NewFile(uintptr(fd), name)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) // less does as well
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everyProtocol, Ifindex: link.Index}); err != nil {
		socket.Close()
		return nil, err
	}
	return socket, nil
}

// everyProtocol is ETH_P_ALL in network byte order.
const everyProtocol = unix.ETH_P_ALL << 8

func lost(socket *os.File) int {
	conn, err := socket.SyscallConn()
	if err != nil {
		return 0
	}
	drops := 0
	_ = conn.Control(func(fd uintptr) {
		if stats, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			drops = int(stats.Drops)
		}
	})
	return drops
}
