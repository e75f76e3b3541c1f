// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// defaultTTL of answers that no hop limit is for.
const defaultTTL = 64

// metadata is a VPC's instance metadata service.
type metadata struct {
	server *http.Server
	limits atomic.Pointer[map[netip.Prefix]int] // how far a token travels: by an interface's addresses
}

// ServeMetadata answers at the address of the instance metadata service in each VPC. A request's remote address tells the
// instance: see InstanceOf. Answers to PUT, which carry tokens, live for as many hops as the instance's hop limit says: one
// is enough for the instance, and not for a pod that it forwards to.
func (n *Network) ServeMetadata(handler func(vpcID string) http.Handler) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.metadata = handler
	for id, r := range n.routers {
		if err := n.serveMetadata(id, r); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) serveMetadata(vpcID string, r *router) error {
	if n.metadata == nil || r.metadata.server != nil {
		return nil
	}
	listener, err := netns.Listen(r.path, MetadataAddress+":80")
	if err != nil {
		return err
	}
	r.metadata.server = &http.Server{
		Handler: r.metadata.limit(n.metadata(vpcID)), ReadHeaderTimeout: time.Minute,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
	go func() { _ = r.metadata.server.Serve(listener) }() // ends with the router
	return nil
}

// connKey of a request's context leads to its connection.
type connKey struct{}

// limit sets how far the answer to a request travels.
func (m *metadata) limit(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ttl := defaultTTL
		if r.Method == http.MethodPut {
			ttl = m.hopLimit(r.RemoteAddr)
		}
		if err := setTTL(r.Context().Value(connKey{}).(net.Conn), ttl); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

func (m *metadata) hopLimit(remote string) int {
	limits := m.limits.Load()
	address, err := netip.ParseAddrPort(remote)
	if err != nil || limits == nil {
		return 1
	}
	for _, bits := range []int{32, prefixBits} {
		if limit, ok := (*limits)[netip.PrefixFrom(address.Addr(), bits).Masked()]; ok {
			return limit
		}
	}
	return 1
}

// setLimits of the instances of a VPC.
func (m *metadata) setLimits(s aws.Snapshot) {
	ofInstance := map[string]int{}
	for _, instance := range s.Instances {
		ofInstance[instance.ID] = instance.MetadataHopLimit
	}
	limits := map[netip.Prefix]int{}
	for _, eni := range s.Interfaces {
		if eni.Attachment == nil {
			continue
		}
		for _, p := range addressesOf(eni) {
			limits[p] = max(1, ofInstance[eni.Attachment.InstanceID])
		}
	}
	m.limits.Store(&limits)
}

func setTTL(conn net.Conn, ttl int) error {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl) })
	if err != nil {
		return err
	}
	return failed
}

func (m *metadata) close() {
	if m.server != nil {
		m.server.Close()
	}
}
