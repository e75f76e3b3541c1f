// SPDX-License-Identifier: Apache-2.0

// Package node_test runs the built agent and plugin on instances of a simulated account: a real kernel, a VPC of real
// packets, the EC2 API over HTTP and a real API server.
package node_test

import (
	"errors"
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"testing"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
)

var (
	rounds = flag.Int("rounds", 30, "how often the agent is killed; plugins are killed several times in each round; make crash has 500")
	seed   = flag.Uint64("seed", 0, "of all that is random; 0: another one each time")
)

const (
	// roundsEach is how many rounds an instance lives for: each one begins with an ENI to create and to attach.
	roundsEach = 5
	crashPods  = 40
	// atOnce is how many plugins run at a time.
	atOnce = 4
)

func owner(p *pod) lease.Owner { return lease.Owner{ContainerID: p.id, IfName: "eth0"} }

// TestNothingIsLostOrDoubledWhenAgentAndPluginsAreKilledAtAnyInstant starts and stops pods while the agent, from its first
// start on an instance, and the plugins are killed with SIGKILL. When the agent is back, and the runtime has said by GC which
// pods live, the node and EC2 have exactly what those need.
func TestNothingIsLostOrDoubledWhenAgentAndPluginsAreKilledAtAnyInstant(t *testing.T) {
	c := &crash{T: t, random: rand.New(rand.NewPCG(seeded(t), 0)), typical: 20 * time.Millisecond} //nolint:gosec // no secret
	w := newWorld(t)
	w.warm(t, 2)
	for n := range crashPods {
		c.pods = append(c.pods, newPod(t, describe("pod%d", n)))
	}
	c.measure(w)
	for c.agents < *rounds {
		// Three prefixes an ENI, so that one ENI is not enough for the pods.
		c.instance = w.launch(t, ec2types.InstanceTypeT3Small)
		for range min(roundsEach, *rounds-c.agents) {
			c.round()
		}
		c.settle()
		w.terminate(t, c.instance)
	}
	t.Logf("killed %d agents, whose pool took %s at first, and %d plugins of %d, which took %s of late; %d ADDs found no address",
		c.agents, c.ready, c.plugins, c.runs, c.typical, c.refused)
	require.NotZero(t, c.plugins)
}

type crash struct {
	*testing.T
	random   *rand.Rand
	instance *instance
	pods     []*pod
	typical  time.Duration // run of the plugin, of late
	ready    time.Duration // from an agent's start on a new instance until its pool is there

	agents, plugins, runs, refused int
}

// measure how long an agent needs on a new instance.
func (c *crash) measure(w *world) {
	c.instance = w.launch(c.T, ec2types.InstanceTypeT3Small)
	started := time.Now()
	c.instance.startAgent(c.T, agentBinary())
	eventually(c.T, func(check *assert.CollectT) { c.instance.checkEC2(check) })
	c.ready = time.Since(started)
	c.instance.killAgent()
	c.settle()
	w.terminate(c.T, c.instance)
}

// round starts the agent and kills it at a random instant, while pods start and stop.
func (c *crash) round() {
	lifetime := time.Duration(c.random.Int64N(int64(c.ready * 3 / 2)))
	c.instance.startAgent(c.T, agentBinary())
	timer := time.AfterFunc(lifetime, c.instance.killAgent)
	defer timer.Stop()
	for c.instance.agentRuns() {
		c.batch()
	}
	c.agents++
}

// batch lets a few plugins run at the same time, each for another pod.
func (c *crash) batch() {
	type outcome struct {
		pod   *pod
		start bool
		err   error
		took  time.Duration
	}
	var group sync.WaitGroup
	outcomes := make([]outcome, atOnce)
	for n, at := range c.random.Perm(len(c.pods))[:atOnce] {
		o := &outcomes[n]
		o.pod = c.pods[at]
		o.start = !o.pod.address.IsValid() && c.random.IntN(4) > 0
		var after time.Duration
		if c.random.IntN(3) == 0 {
			after = 1 + time.Duration(c.random.Int64N(int64(c.typical*3/2)))
		}
		group.Go(func() {
			started := time.Now()
			defer func() { o.took = time.Since(started) }()
			if o.start {
				o.err = c.instance.add(o.pod, after)
			} else {
				o.err = c.instance.del(o.pod, after)
			}
		})
	}
	group.Wait()
	c.runs += len(outcomes)
	for _, o := range outcomes {
		var failure *types.Error
		switch {
		case o.err == nil:
			c.typical = (7*c.typical + o.took) / 8
		case errors.Is(o.err, errKilled):
			c.plugins++
		case errors.As(o.err, &failure) && failure.Code == types.ErrTryAgainLater && o.start:
			c.refused++
		default:
			require.NoError(c, o.err, "ADD %t of %s", o.start, o.pod.name)
		}
	}
	c.checkOnce()
}

// living pods: their ADD has succeeded, and no DEL was tried since.
func (c *crash) living() (living []*pod) {
	for _, p := range c.pods {
		if p.address.IsValid() {
			living = append(living, p)
		}
	}
	return living
}

func (c *crash) checkOnce() {
	held := map[netip.Addr]string{}
	for _, p := range c.living() {
		require.Empty(c, held[p.address], "%s has the address of %s", p.name, p.address)
		held[p.address] = p.name
	}
}

// settle starts the agent, lets it work, and compares everything.
func (c *crash) settle() {
	i := c.instance
	if err := i.gc(c.living(), 1+time.Duration(c.random.Int64N(int64(c.typical)))); err != nil {
		require.ErrorIs(c, err, errKilled) // the next one goes on
	}
	require.NoError(c, i.gc(c.living(), 0))
	for compared := false; !compared; { // again, when the last kill came while it fetched more still
		i.startAgent(c.T, agentBinary())
		eventually(c.T, func(check *assert.CollectT) {
			i.checkEC2(check)
			i.checkKernel(check, c.living())
		})
		i.killAgent()
		eventually(c.T, func(check *assert.CollectT) { require.Zero(check, i.world.calls.Load()) })
		compared = holds(func(t require.TestingT) {
			i.checkEC2(t)
			i.checkKernel(t, c.living())
		})
	}

	doc := i.pool(c)
	for _, p := range c.living() {
		p.address = netip.Addr{}
	}
	require.NoError(c, i.gc(nil, 0))
	i.checkKernel(c, nil)
	for _, dir := range []string{"owners", "new"} {
		entries, err := os.ReadDir(filepath.Join(i.stateDir, dir))
		require.NoError(c, err)
		require.Empty(c, entries, dir)
	}
	store, err := lease.Open(i.stateDir)
	require.NoError(c, err)
	given := map[netip.Addr]bool{}
	for n := 0; ; n++ {
		a, err := store.Acquire(lease.Request{Owner: lease.Owner{ContainerID: describe("last-%d", n), IfName: "eth0"}, Pod: "default/last", Now: time.Now(),
			Pool: func() (lease.Pool, error) { return lease.Pool{Prefixes: doc.Prefixes()}, nil }})
		if errors.Is(err, lease.ErrNoFreeAddress) {
			break
		}
		require.NoError(c, err)
		require.False(c, given[a], "%s is given twice", a)
		given[a] = true
	}
	require.Len(c, given, doc.Capacity(), "each address of the pool can be given")
}

// holds tells whether a check passes.
func holds(check func(require.TestingT)) bool {
	t := &probe{}
	done := make(chan struct{})
	go func() { // FailNow ends the goroutine
		defer close(done)
		check(t)
	}()
	<-done
	return !t.failed
}

type probe struct{ failed bool }

func (p *probe) Errorf(string, ...any) { p.failed = true }

func (p *probe) FailNow() {
	p.failed = true
	goruntime.Goexit()
}
