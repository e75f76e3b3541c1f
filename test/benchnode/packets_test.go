// SPDX-License-Identifier: Apache-2.0

package benchnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

const (
	packetRounds = 10
	// A round floods for this long, and then waits for so many answers one after the other.
	flood    = 300 * time.Millisecond
	exchange = 1000
	port     = 7007
	// payload of a packet in bytes: the number of packets counts here, not that of bytes.
	payload = 64
	lost    = time.Second // an answer that has not come by then
)

// packetFigure is UDP between two pods on two nodes.
type packetFigure struct {
	Name      string        `json:"name"`
	PerSecond float64       `json:"packetsPerSecond"` // that arrive, in the median round
	P50       time.Duration `json:"roundTripP50Nanoseconds"`
	P99       time.Duration `json:"roundTripP99Nanoseconds"`
}

// packetsAcrossNodes compares a pair of nodes that have one pod each with a pair that have 250 each, round by round. On the way there
// it counts what the kernel of a node holds.
func packetsAcrossNodes(t *testing.T, w *world) ([]kernelCount, []packetFigure) {
	const many = 250
	counts := []kernelCount{}
	light, heavy := &pair{}, &pair{}
	for n := range 2 {
		one, full := w.launch(t, 9, 7), w.launch(t, 9, 7)
		pods := newPods(t, fmt.Sprint("light", n), 1)
		one.addAll(t, pods, 1)
		light.join(t, pods[0])
		pods = newPods(t, fmt.Sprint("heavy", n), many)
		for _, upTo := range []int{1, 110, many} {
			var more []*pod
			for _, p := range pods[:upTo] {
				if !p.address.IsValid() {
					more = append(more, p)
				}
			}
			full.addAll(t, more, 8)
			if n == 0 {
				counts = append(counts, full.kernel(t, upTo))
			}
		}
		heavy.join(t, pods[many/2])
	}
	for range packetRounds {
		light.round(t)
		heavy.round(t)
	}
	return counts, []packetFigure{light.figure("one pod on each node"), heavy.figure(fmt.Sprintf("%d pods on each node", many))}
}

// pair of pods: the first one sends.
type pair struct {
	sockets   []*net.UDPConn
	addresses []netip.AddrPort
	perSecond []float64
	trips     []time.Duration
}

func (p *pair) join(t *testing.T, pod *pod) {
	t.Helper()
	at := netip.AddrPortFrom(pod.address, port)
	require.NoError(t, netns.Do(pod.netns, func() error {
		socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		t.Cleanup(func() { socket.Close() })
		p.sockets, p.addresses = append(p.sockets, socket), append(p.addresses, at)
		return socket.SetReadBuffer(4 << 20)
	}))
}

func (p *pair) round(t *testing.T) {
	p.flood(t)
	p.exchange(t)
}

// flood counts the packets that arrive while the first pod sends as fast as it can.
func (p *pair) flood(t *testing.T) {
	require.NoError(t, p.sockets[1].SetReadDeadline(time.Now().Add(flood)))
	stop := make(chan struct{})
	sent := make(chan error, 1)
	started := time.Now()
	go func() {
		packet := make([]byte, payload)
		for {
			select {
			case <-stop:
				sent <- nil
				return
			default:
			}
			if _, err := p.sockets[0].WriteToUDPAddrPort(packet, p.addresses[1]); err != nil {
				sent <- err
				return
			}
		}
	}()
	arrived := 0
	packet := make([]byte, payload)
	for {
		if _, _, err := p.sockets[1].ReadFromUDPAddrPort(packet); err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			break
		}
		arrived++
	}
	p.perSecond = append(p.perSecond, float64(arrived)/time.Since(started).Seconds())
	close(stop)
	require.NoError(t, <-sent)
	require.NotZero(t, arrived, "packets from %s to %s", p.addresses[0], p.addresses[1])
	p.drain(t)
}

// drain reads what the flood left.
func (p *pair) drain(t *testing.T) {
	packet := make([]byte, payload)
	for {
		require.NoError(t, p.sockets[1].SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		if _, _, err := p.sockets[1].ReadFromUDPAddrPort(packet); err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			return
		}
	}
}

// exchange measures round trips: the second pod returns what it gets.
func (p *pair) exchange(t *testing.T) {
	require.NoError(t, p.sockets[1].SetReadDeadline(time.Time{}))
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		packet := make([]byte, payload)
		for {
			n, from, err := p.sockets[1].ReadFromUDPAddrPort(packet)
			if err != nil {
				return
			}
			_, _ = p.sockets[1].WriteToUDPAddrPort(packet[:n], from) // a lost answer is seen at the other end
		}
	}()
	packet, answer := make([]byte, payload), make([]byte, payload)
	for n := range uint64(exchange) {
		binary.BigEndian.PutUint64(packet, n)
		started := time.Now()
		require.NoError(t, p.sockets[0].SetReadDeadline(started.Add(lost)))
		_, err := p.sockets[0].WriteToUDPAddrPort(packet, p.addresses[1])
		require.NoError(t, err)
		for err == nil {
			if _, _, err = p.sockets[0].ReadFromUDPAddrPort(answer); binary.BigEndian.Uint64(answer) == n {
				break
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Logf("no answer to a packet within %s", lost)
			err = nil
		}
		require.NoError(t, err)
		p.trips = append(p.trips, time.Since(started))
	}
	require.NoError(t, p.sockets[1].SetReadDeadline(time.Now()))
	<-echoed
}

func (p *pair) figure(name string) packetFigure {
	slices.Sort(p.perSecond)
	trips := figureOf("", p.trips)
	return packetFigure{Name: name, PerSecond: p.perSecond[len(p.perSecond)/2], P50: trips.P50, P99: trips.P99}
}
