// SPDX-License-Identifier: Apache-2.0

package allocator_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/smithy-go"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// model is EC2 as far as one node sees it, in memory and with the world's clock. Each request may fail before or after its
// effect, or kill the agent at either point.
type model struct {
	w       *world
	subnets map[string]*space
	enis    map[string]*modelENI
	ids     int
	slots   int // pod addresses or prefixes of an ENI
	limit   int // ENIs of the instance
	// trouble is the chance that a request meets a fault.
	trouble float64
	// effects counts requests that changed something.
	effects int
	// unread: a request had an effect that nobody was told of, and the ENIs were not listed since.
	unread bool
}

type modelENI struct {
	eni.ENI
	attached  bool
	gone      time.Time // when the detachment ends
	detaching bool
}

// space is a subnet's addresses, by /28.
type space struct {
	first netip.Addr
	taken [][16]bool
}

func newSpace(first string, blocks int) *space {
	return &space{first: netip.MustParseAddr(first), taken: make([][16]bool, blocks)}
}

func (s *space) at(block, i int) netip.Addr {
	a := s.first.As4()
	n := int(a[2])<<8 + int(a[3]) + block*16 + i
	return netip.AddrFrom4([4]byte{a[0], a[1], byte(n >> 8), byte(n)})
}

func (s *space) freeAddresses() (free []netip.Addr) {
	for b := range s.taken {
		for i, taken := range s.taken[b] {
			if !taken {
				free = append(free, s.at(b, i))
			}
		}
	}
	return free
}

func (s *space) freeBlocks() (free []netip.Prefix) {
	for b := range s.taken {
		if s.taken[b] == [16]bool{} {
			free = append(free, netip.PrefixFrom(s.at(b, 0), 28))
		}
	}
	return free
}

func (s *space) set(p netip.Prefix, taken bool) {
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		x, y := a.As4(), s.first.As4()
		n := (int(x[2])<<8 + int(x[3])) - (int(y[2])<<8 + int(y[3]))
		s.taken[n/16][n%16] = taken
	}
}

// give takes units out of the space as EC2 does, or says why not.
func (s *space) give(rng *rand.Rand, unit pool.Unit, count int) ([]netip.Prefix, error) {
	var free []netip.Prefix
	if unit == pool.Prefix {
		free = s.freeBlocks()
	} else {
		for _, a := range s.freeAddresses() {
			free = append(free, netip.PrefixFrom(a, 32))
		}
	}
	if len(free) < count {
		switch {
		case unit == pool.SingleAddress:
			return nil, apiError("InsufficientFreeAddressesInSubnet", "")
		case len(s.freeAddresses()) < count*int(unit):
			return nil, apiError("InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes")
		default:
			return nil, apiError("InsufficientCidrBlocks", "")
		}
	}
	rng.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for _, p := range free[:count] {
		s.set(p, true)
	}
	return free[:count:count], nil
}

func apiError(code, message string) error {
	return &smithy.GenericAPIError{Code: code, Message: message}
}

// crash is the death of the agent.
type crash struct{}

var errLost = errors.New("connection closed")

// do runs a request's effect amid the trouble of the world.
func (m *model) do(effect func() error) error {
	if m.w.rng.Float64() >= m.trouble {
		return effect()
	}
	switch m.w.rng.IntN(6) {
	case 0:
		return apiError("RequestLimitExceeded", "")
	case 1:
		return apiError("InternalError", "")
	case 2:
		panic(crash{})
	case 3:
		if err := effect(); err != nil {
			return err
		}
		panic(crash{})
	default:
		if err := effect(); err != nil {
			return err
		}
		m.unread = true
		return errLost
	}
}

func (m *model) List(context.Context) (enis []eni.ENI, err error) {
	m.settle()
	unread := m.unread
	err = m.do(func() error {
		for _, id := range slices.Sorted(maps.Keys(m.enis)) {
			if e := m.enis[id]; e.attached {
				listed := e.ENI
				listed.Detaching = e.detaching
				listed.Prefixes = slices.Clone(e.Prefixes)
				enis = append(enis, listed)
			}
		}
		return nil
	})
	if m.unread = unread && err != nil; err != nil {
		return nil, err
	}
	return enis, nil
}

// mustBeRead: to ask for more after a lost reply, without a look at what it gave, could double it.
func (m *model) mustBeRead() {
	if m.unread {
		m.w.failf("more is asked for after a lost reply")
	}
}

// settle ends detachments.
func (m *model) settle() {
	for _, e := range m.enis {
		if e.detaching && !m.w.now.Before(e.gone) {
			e.attached, e.detaching = false, false
		}
	}
}

func (m *model) Sweep(context.Context) (deleted []string, err error) {
	defer func(unread bool) { m.unread = unread }(m.unread) // it gives nothing
	m.settle()
	for _, id := range slices.Sorted(maps.Keys(m.enis)) {
		if e := m.enis[id]; !e.attached && e.Ours {
			if err := m.do(func() error { m.delete(id); return nil }); err != nil {
				return deleted, err
			}
			deleted = append(deleted, id)
		}
	}
	return deleted, nil
}

func (m *model) delete(id string) {
	e := m.enis[id]
	for _, p := range e.Prefixes {
		m.w.mustNotBeUsed(p)
		m.subnets[e.Subnet].set(p, false)
	}
	delete(m.enis, id)
}

func (m *model) Create(_ context.Context, p eni.CreateParams) (eni.ENI, error) {
	m.mustBeRead()
	var e *modelENI
	err := m.do(func() error {
		if p.Count > m.slots {
			return apiError("InvalidParameterValue", "too many")
		}
		prefixes, err := m.subnets[p.Subnet].give(m.w.rng, p.Unit, p.Count)
		if err != nil {
			return err
		}
		m.ids++
		e = &modelENI{ENI: eni.ENI{ID: fmt.Sprintf("eni-%06d", m.ids), Subnet: p.Subnet, Prefixes: prefixes, Ours: true}}
		m.enis[e.ID] = e
		m.effects++
		return nil
	})
	if err != nil {
		return eni.ENI{}, err
	}
	err = m.do(func() error {
		if m.attachedCount() >= m.limit {
			return apiError("AttachmentLimitExceeded", "")
		}
		for index := 1; index < p.MaxENIs; index++ {
			if !m.indexTaken(index) {
				e.attached, e.DeviceIndex, e.AttachmentID = true, index, "attach-"+e.ID
				return nil
			}
		}
		return apiError("AttachmentLimitExceeded", "")
	})
	if e.attached {
		m.unread = false // the client looks for it
	}
	if err != nil && !e.attached {
		deletion := m.do(func() error { m.delete(e.ID); return nil })
		return eni.ENI{}, errors.Join(err, deletion)
	}
	if err := m.DeleteOnTermination(context.Background(), e.ENI); err != nil {
		return e.copy(), err
	}
	return e.copy(), nil
}

func (e *modelENI) copy() eni.ENI {
	c := e.ENI
	c.Prefixes = slices.Clone(e.Prefixes)
	return c
}

func (m *model) attachedCount() (n int) {
	for _, e := range m.enis {
		if e.attached {
			n++
		}
	}
	return n
}

func (m *model) indexTaken(index int) bool {
	for _, e := range m.enis {
		if e.attached && e.DeviceIndex == index {
			return true
		}
	}
	return false
}

func (m *model) DeleteOnTermination(_ context.Context, e eni.ENI) error {
	defer func(unread bool) { m.unread = unread }(m.unread) // it gives nothing
	return m.do(func() error {
		if m.enis[e.ID] == nil || !m.enis[e.ID].attached {
			return apiError("InvalidAttachmentID.NotFound", "")
		}
		m.enis[e.ID].DeleteOnTermination = true
		return nil
	})
}

func (m *model) Assign(_ context.Context, id string, unit pool.Unit, count int) (assigned []netip.Prefix, err error) {
	m.mustBeRead()
	err = m.do(func() error {
		e := m.enis[id]
		switch {
		case e == nil:
			return apiError("InvalidNetworkInterfaceID.NotFound", "")
		case len(e.Prefixes)+count > m.slots:
			return apiError("PrivateIpAddressLimitExceeded", "")
		}
		var err error
		if assigned, err = m.subnets[e.Subnet].give(m.w.rng, unit, count); err != nil {
			return err
		}
		e.Prefixes = append(e.Prefixes, assigned...)
		m.effects++
		return nil
	})
	if err != nil {
		return nil, err
	}
	return assigned, nil
}

func (m *model) Unassign(_ context.Context, id string, prefixes []netip.Prefix) error {
	return m.do(func() error {
		e := m.enis[id]
		for _, p := range prefixes {
			if e == nil || !slices.Contains(e.Prefixes, p) {
				return apiError("InvalidParameterValue", "Some of the specified addresses are not assigned to interface "+id)
			}
		}
		for _, p := range prefixes {
			m.w.mustNotBeUsed(p)
			m.subnets[e.Subnet].set(p, false)
		}
		e.Prefixes = slices.DeleteFunc(e.Prefixes, func(p netip.Prefix) bool { return slices.Contains(prefixes, p) })
		m.effects++
		return nil
	})
}

func (m *model) Detach(_ context.Context, detached eni.ENI) error {
	return m.do(func() error {
		e := m.enis[detached.ID]
		if e == nil || !e.attached || !e.Ours {
			return apiError("InvalidAttachmentID.NotFound", "")
		}
		if e.detaching {
			return apiError("IncorrectState", "")
		}
		for _, p := range e.Prefixes {
			m.w.mustNotBeUsed(p)
		}
		e.detaching, e.gone = true, m.w.now.Add(time.Duration(m.w.rng.IntN(10))*time.Second)
		m.effects++
		return nil
	})
}
