// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

func podWith(name, ip string, change ...func(*corev1.Pod)) corev1.Pod {
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Status: corev1.PodStatus{PodIP: ip, Phase: corev1.PodRunning}}
	for _, f := range change {
		f(&pod)
	}
	return pod
}

func TestOnlyWhatNoLivingPodMayUseIsFreed(t *testing.T) {
	ended := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	deleting := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	onHost := func(p *corev1.Pod) { p.Spec.HostNetwork = true }
	leased := remain{kind: remainLease, address: netip.MustParseAddr("100.64.0.16"), pod: "default/web"}
	link := remain{kind: remainLink, address: leased.address}
	for name, c := range map[string]struct {
		what    remain
		pods    []corev1.Pod
		claimed bool
	}{
		"no pod is left":                        {leased, nil, false},
		"the pod has the address":               {leased, []corev1.Pod{podWith("web", "100.64.0.16")}, true},
		"it is being deleted and still has it":  {leased, []corev1.Pod{podWith("web", "100.64.0.16", deleting)}, true},
		"it waits for an address":               {leased, []corev1.Pod{podWith("web", "")}, true},
		"it has ended, and its status tells it": {leased, []corev1.Pod{podWith("web", "100.64.0.16", ended)}, false},
		"its sandbox was made anew":             {leased, []corev1.Pod{podWith("web", "100.64.0.17")}, false},
		"it is on the host's network now":       {leased, []corev1.Pod{podWith("web", "", onHost)}, false},
		"another pod has the address":           {leased, []corev1.Pod{podWith("other", "100.64.0.16")}, true},
		"another pod waits":                     {leased, []corev1.Pod{podWith("other", "")}, false},
		"one of that name elsewhere": {leased, []corev1.Pod{podWith("web", "", func(p *corev1.Pod) { p.Namespace = "else" })},
			false},
		"a link that leads to a pod": {link, []corev1.Pod{podWith("web", "100.64.0.16")}, true},
		"a link that leads to none":  {link, []corev1.Pod{podWith("web", "100.64.0.17"), podWith("new", "")}, false},
		"a link without a route":     {remain{kind: remainLink}, []corev1.Pod{podWith("new", "")}, false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.claimed, claimed(c.what, c.pods)) })
	}
}

// nodeModel is a node in which plugins and sandboxes end at any step. Its leases are the real store's.
type nodeModel struct {
	t         *testing.T
	random    *rand.Rand
	store     *lease.Store
	now       time.Time
	indexes   int
	sandboxes []*sandbox
	links     map[string]datapath.PodLink
	away      bool // the API server
	c         *collector
}

// sandbox of a pod. Its ADD is in flight until address is valid.
type sandbox struct {
	owner   lease.Owner
	pod     string
	leased  netip.Addr
	started time.Time
	killed  bool // its ADD will not go on
	address netip.Addr
	gone    bool // the API server has no such pod any more
}

func newNodeModel(t *testing.T, seed uint64) *nodeModel {
	store, err := lease.Open(t.TempDir())
	require.NoError(t, err)
	m := &nodeModel{t: t, random: rand.New(rand.NewPCG(seed, 0)), store: store, now: time.Unix(1e9, 0), links: map[string]datapath.PodLink{}}
	m.restart()
	return m
}

func (m *nodeModel) restart() {
	m.c = &collector{
		leases: m.store, log: slog.New(slog.DiscardHandler), now: func() time.Time { return m.now }, collected: func(remainKind) {},
		links: func() (links []datapath.PodLink, err error) {
			for _, l := range m.links {
				links = append(links, l)
			}
			return links, nil
		},
		pods: func(context.Context) ([]corev1.Pod, error) {
			if m.away {
				return nil, errors.New("the API server is away")
			}
			var pods []corev1.Pod
			for _, s := range m.sandboxes {
				if !s.gone {
					ip := ""
					if s.address.IsValid() {
						ip = s.address.String()
					}
					pods = append(pods, podWith(s.pod, ip))
				}
			}
			return pods, nil
		},
		delete: func(l datapath.PodLink) error {
			delete(m.links, l.Name)
			return nil
		},
	}
}

// step lets one thing happen: an ADD begins, wires, or is killed; a DEL comes, or never; a link or the leases are lost.
func (m *nodeModel) step() {
	m.now = m.now.Add(time.Duration(m.random.IntN(40)) * time.Second)
	if m.random.IntN(3) == 0 || len(m.sandboxes) == 0 {
		m.indexes++
		s := &sandbox{owner: lease.Owner{ContainerID: fmt.Sprint("c", m.indexes), IfName: "eth0"}, pod: fmt.Sprint("p", m.indexes), started: m.now}
		pool := func() (lease.Pool, error) {
			return lease.Pool{Prefixes: []netip.Prefix{netip.MustParsePrefix("100.64.0.16/28")}}, nil
		}
		a, err := m.store.Acquire(lease.Request{Owner: s.owner, Pod: "default/" + s.pod, Pool: pool, Now: m.now})
		if errors.Is(err, lease.ErrNoFreeAddress) {
			return
		}
		require.NoError(m.t, err)
		s.leased = a
		m.sandboxes = append(m.sandboxes, s)
		return
	}
	s := m.sandboxes[m.random.IntN(len(m.sandboxes))]
	name := cni.HostName(s.owner)
	switch m.random.IntN(8) {
	case 0, 1: // it wires, if it lives
		if !s.killed && !s.address.IsValid() && m.now.Sub(s.started) < 4*time.Minute {
			m.indexes++
			s.address, m.links[name] = s.leased, datapath.PodLink{Name: name, Index: m.indexes, Address: s.leased}
		}
	case 2:
		s.killed = true
	case 3: // DEL
		delete(m.links, name)
		require.NoError(m.t, m.store.Release(s.owner, m.now))
		s.killed, s.gone = true, true
	case 4: // the runtime forgets the sandbox
		delete(m.links, name)
		s.killed, s.gone = true, true
	case 5: // GC of an older release was killed: the lease is gone, and the link stays
		if s.address.IsValid() && s.gone {
			m.links[name] = datapath.PodLink{Name: name, Index: m.indexes}
			require.NoError(m.t, m.store.Release(s.owner, m.now))
		}
	case 6: // somebody takes the link of a living pod
		delete(m.links, name)
	case 7:
		m.away = m.random.IntN(2) == 0
		if m.random.IntN(4) == 0 {
			m.restart()
		}
	}
}

func TestNoAddressIsFreedThatAPodUsesAndNothingStaysForEver(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number
	t.Logf("seed %d", seed)
	m := newNodeModel(t, seed)
	freed := 0
	for range 4000 {
		m.step()
		before, err := m.store.List()
		require.NoError(t, err)
		err = m.c.look(t.Context())
		require.True(t, err == nil || m.away, "%v", err)
		after, err := m.store.List()
		require.NoError(t, err)
		held := map[lease.Owner]bool{}
		for _, l := range after {
			held[l.Owner] = true
		}
		freed += len(before) - len(after)
		for _, s := range m.sandboxes {
			inFlight := !s.killed && !s.address.IsValid() && m.now.Sub(s.started) < 4*time.Minute
			require.True(t, s.gone || held[s.owner] || (!inFlight && !s.address.IsValid()), "%s lost %s, which it uses", s.pod, s.leased)
		}
		if m.indexes%10 == 0 { // pods that never came up are given up
			for _, s := range m.sandboxes {
				s.gone = s.gone || !s.address.IsValid() && m.now.Sub(s.started) >= 4*time.Minute
			}
		}
	}
	require.NotZero(t, freed)
	m.away = false
	for _, s := range m.sandboxes {
		s.gone = true
		if m.random.IntN(2) == 0 {
			delete(m.links, cni.HostName(s.owner))
		}
	}
	for range 8 {
		require.NoError(t, m.c.look(t.Context()))
		m.now = m.now.Add(collectPeriod)
	}
	leases, err := m.store.List()
	require.NoError(t, err)
	require.Empty(t, remainsOf(leases, func() []datapath.PodLink { l, _ := m.c.links(); return l }()))
}
