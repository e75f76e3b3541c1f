// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// port is a TCP port that nobody else is given while it is held. It is bound with SO_REUSEPORT and not listened on, so
// the API server, which is started with --permit-port-sharing, can listen there and gets every connection.
type port struct {
	fd     int
	number int
}

func holdPort(addr netip.Addr) (*port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("hold a port: %w", err)
	}
	p := &port{fd: fd}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		p.release()
		return nil, fmt.Errorf("hold a port: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.As4()}); err != nil {
		p.release()
		return nil, fmt.Errorf("hold a port of %s: %w", addr, err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		p.release()
		return nil, fmt.Errorf("hold a port: %w", err)
	}
	p.number = bound.(*unix.SockaddrInet4).Port
	return p, nil
}

func (p *port) release() { _ = unix.Close(p.fd) }
