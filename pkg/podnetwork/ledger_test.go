// SPDX-License-Identifier: Apache-2.0

package podnetwork_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

var seven = podcapacity.Need{Prefixes: 7, ENIs: 1}

func newLedger() (*podnetwork.Ledger, *clocktesting.FakeClock) {
	c := clocktesting.NewFakeClock(time.Unix(1000, 0))
	return podnetwork.NewLedger(c), c
}

// emptySubnet, where reserved with all of it for prefixes.
func emptySubnet(id, cidr string, reserved bool, read time.Time) *podnetwork.Snapshot {
	var reservations podnetwork.Reservations
	if reserved {
		reservations.Prefix = prefixes(cidr)
	}
	return podnetwork.NewSnapshot(id, netip.MustParsePrefix(cidr), nil, reservations, read)
}

func place(zone string) podnetwork.Place {
	return podnetwork.Place{Zone: zone, ENIConfig: zone, Subnet: "subnet-" + zone}
}

func request(owner string, need podcapacity.Need, zones ...string) podnetwork.Request {
	r := podnetwork.Request{Owner: owner, Need: need}
	for _, zone := range zones {
		r.Zones = append(r.Zones, []podnetwork.Place{place(zone)})
	}
	return r
}

func TestANodesWholeNeedIsSetAsideUntilItHoldsIt(t *testing.T) {
	l, c := newLedger()
	l.Observe(emptySubnet("subnet-a", "100.64.0.0/24", false, c.Now())) // 14 free blocks
	held, _ := l.Reserve(t.Context(), request("one", seven, "a"))
	require.Equal(t, []podnetwork.Place{place("a")}, held)
	require.Equal(t, podnetwork.Charge{Blocks: 8, Addresses: 7*16 + 1}, l.Room("subnet-a").Aside, "the ENI's own address may spoil a block")
	l.Keep(podnetwork.Kept{Owner: "one", Subnet: "subnet-a", Instance: "i-1", Need: seven})

	_, refused := l.Reserve(t.Context(), request("two", seven, "a"))
	require.Len(t, refused, 1)
	require.Equal(t, "14 /28 blocks free, 8 of them set aside for nodes, 7 needed and 1 that single addresses may spoil: a subnet CIDR reservation of type prefix would keep them apart; 138 single addresses free", refused[0].Reason)

	// The node's ENI took an address in the first block, which AWS's own addresses had spoilt before, and one prefix.
	eni := podnetwork.ENI{Instance: "i-1", Addresses: []netip.Prefix{netip.MustParsePrefix("100.64.0.9/32")}, Prefixes: prefixes("100.64.0.16/28")}
	l.Observe(podnetwork.NewSnapshot("subnet-a", netip.MustParsePrefix("100.64.0.0/24"), []podnetwork.ENI{eni}, podnetwork.Reservations{}, c.Now()))
	require.Equal(t, podnetwork.Charge{Blocks: 6, Addresses: 6 * 16}, l.Room("subnet-a").Aside)
	require.Equal(t, 13, l.Room("subnet-a").Free.Blocks)

	l.Stamped("one", "subnet-a", seven, "i-1")
	l.Gone("one")
	require.Zero(t, l.Room("subnet-a").Aside)
	require.Equal(t, 13, l.Room("subnet-a").Free.Blocks, "what it held comes back with the next reading")
}

func TestAPrefixReservationKeepsSingleAddressesFromTheBlocks(t *testing.T) {
	l, c := newLedger()
	l.Observe(emptySubnet("subnet-a", "100.64.0.0/24", false, c.Now()))
	apart := podnetwork.NewSnapshot("subnet-b", netip.MustParsePrefix("100.64.1.0/24"), nil, podnetwork.Reservations{Prefix: prefixes("100.64.1.128/25")}, c.Now())
	l.Observe(apart) // 7 blocks: the last is AWS's
	require.Equal(t, 1, l.Room("subnet-a").Nodes(seven))
	require.Equal(t, 1, l.Room("subnet-b").Nodes(seven))
	singles := podcapacity.Need{Addresses: 18, ENIs: 2}
	require.Equal(t, 251/20, l.Room("subnet-a").Nodes(singles))
	_, _ = l.Reserve(t.Context(), request("one", seven, "a"))
	require.Zero(t, l.Room("subnet-a").Nodes(singles), "6 blocks are left, 20 could be spoilt, and a node was promised 7")
	_, _ = l.Reserve(t.Context(), request("two", seven, "b"))
	require.Equal(t, 123/20, l.Room("subnet-b").Nodes(singles))
}

func TestALaunchHoldsRoomInEachZoneUntilEC2HasChosen(t *testing.T) {
	l, c := newLedger()
	for _, zone := range []string{"a", "b"} {
		l.Observe(emptySubnet("subnet-"+zone, "100.64.0.0/24", false, c.Now()))
	}
	held, _ := l.Reserve(t.Context(), request("one", seven, "a", "b"))
	require.Len(t, held, 2)

	second := make(chan []podnetwork.Place)
	go func() {
		held, _ := l.Reserve(context.Background(), request("two", seven, "a", "b"))
		second <- held
	}()
	require.Eventually(t, c.HasWaiters, 10*time.Second, time.Millisecond, "it waits for the first to be decided")
	l.Keep(podnetwork.Kept{Owner: "one", Subnet: "subnet-a", Instance: "i-1", Need: seven})
	require.Equal(t, []podnetwork.Place{place("b")}, <-second)
	l.Keep(podnetwork.Kept{Owner: "two", Subnet: "subnet-b", Instance: "i-2", Need: seven})

	held, refused := l.Reserve(t.Context(), request("three", seven, "a", "b"))
	require.Empty(t, held, "nothing is undecided: no use in waiting")
	require.Len(t, refused, 2)
	l.Release("two")
	held, _ = l.Reserve(t.Context(), request("three", seven, "a", "b"))
	require.Equal(t, []podnetwork.Place{place("b")}, held)
}

func TestLaunchesOfAMomentStayTogetherUntilAnotherPlaceHasTwiceTheRoom(t *testing.T) {
	l, c := newLedger()
	zone := []podnetwork.Place{{Zone: "a", ENIConfig: "one", Subnet: "one"}, {Zone: "a", ENIConfig: "two", Subnet: "two"}}
	for _, p := range zone {
		l.Observe(emptySubnet(p.Subnet, "100.64.0.0/22", false, c.Now())) // 62 blocks: seven nodes
	}
	reserve := func(owner string) string {
		held, _ := l.Reserve(t.Context(), podnetwork.Request{Owner: owner, Need: seven, Zones: [][]podnetwork.Place{zone}})
		require.Len(t, held, 1)
		return held[0].Subnet
	}
	var places []string
	for i := range 5 {
		places = append(places, reserve(fmt.Sprint("node-", i)))
	}
	require.Equal(t, []string{"one", "one", "one", "one", "two"}, places)
	c.Step(time.Second)
	require.Equal(t, "two", reserve("later"), "the one with the most room")
}

func TestAmongENIConfigsOfAZoneTheOneWithMostRoomServes(t *testing.T) {
	l, c := newLedger()
	l.Observe(emptySubnet("small", "100.64.0.0/24", false, c.Now()), emptySubnet("big", "100.64.32.0/19", false, c.Now()))
	zone := []podnetwork.Place{{Zone: "a", ENIConfig: "one", Subnet: "small"}, {Zone: "a", ENIConfig: "two", Subnet: "big"}}
	held, _ := l.Reserve(t.Context(), podnetwork.Request{Owner: "n", Need: seven, Zones: [][]podnetwork.Place{zone}})
	require.Equal(t, zone[1:], held)
}

func TestARefusalOfEC2KeepsLaunchesAwayForAWhile(t *testing.T) {
	l, c := newLedger()
	l.Observe(emptySubnet("subnet-a", "100.64.0.0/19", false, c.Now()))
	l.MarkRefused("subnet-a", "InsufficientCidrBlocks")
	_, refused := l.Reserve(t.Context(), request("one", seven, "a"))
	require.Equal(t, "EC2 refused addresses of it with InsufficientCidrBlocks lately", refused[0].Reason)
	c.Step(time.Second)
	l.Observe(emptySubnet("subnet-a", "100.64.0.0/19", false, c.Now()))
	require.False(t, l.Room("subnet-a").Fits(seven), "the same reading says nothing new")
	c.Step(3 * time.Minute)
	require.True(t, l.Room("subnet-a").Fits(seven))

	l.MarkRefused("subnet-a", "InsufficientCidrBlocks")
	c.Step(time.Second)
	l.Observe(emptySubnet("subnet-a", "100.64.0.0/18", false, c.Now()))
	require.True(t, l.Room("subnet-a").Fits(seven), "more is free than when EC2 refused")
}

func TestWhatANodeWasRefusedKeepsLaunchesAwayUnlessAReadingKnowsBetter(t *testing.T) {
	l, c := newLedger()
	began := c.Now()
	require.False(t, l.ReportRefused("subnet-a", "InsufficientCidrBlocks", began), "it is nobody's pod subnet")
	l.Observe(emptySubnet("subnet-a", "100.64.0.0/19", false, began))
	c.Step(10 * time.Second)
	require.False(t, l.ReportRefused("subnet-a", "InsufficientCidrBlocks", began), "the reading is as new")
	require.True(t, l.Room("subnet-a").Fits(seven))
	require.True(t, l.ReportRefused("subnet-a", "InsufficientCidrBlocks", began.Add(5*time.Second)))
	_, refused := l.Reserve(t.Context(), request("one", seven, "a"))
	require.Equal(t, "EC2 refused addresses of it with InsufficientCidrBlocks lately", refused[0].Reason)
	require.False(t, l.ReportRefused("subnet-a", "InsufficientCidrBlocks", began.Add(5*time.Second)), "told twice")
	c.Step(3*time.Minute - 5*time.Second)
	require.True(t, l.Room("subnet-a").Fits(seven), "three minutes after EC2 said it")
	c.Step(time.Second)
	require.False(t, l.ReportRefused("subnet-a", "InsufficientCidrBlocks", began.Add(6*time.Second)), "too long ago")

	require.True(t, l.ReportRefused("subnet-a", "InsufficientCidrBlocks", c.Now().Add(time.Hour)), "by a clock that is fast")
	c.Step(3 * time.Minute)
	require.True(t, l.Room("subnet-a").Fits(seven))
}

func TestALaunchInDoubtIsCoveredUntilItsInstanceMustBeGone(t *testing.T) {
	l, c := newLedger()
	l.Observe(emptySubnet("subnet-a", "100.64.0.0/24", false, c.Now()))
	_, _ = l.Reserve(t.Context(), request("one", seven, "a"))
	l.Doubt("one")
	_, refused := l.Reserve(t.Context(), request("one", seven, "a"))
	require.NotEmpty(t, refused, "its next launch is another instance")
	c.Step(3 * time.Minute)
	held, _ := l.Reserve(t.Context(), request("one", seven, "a"))
	require.NotEmpty(t, held)

	l.Gone("one") // during its launch
	l.Keep(podnetwork.Kept{Owner: "one", Subnet: "subnet-a", Instance: "i-1", Need: seven})
	require.False(t, l.Room("subnet-a").Fits(seven), "the instance runs until Karpenter finds it")
	c.Step(3 * time.Minute)
	require.True(t, l.Room("subnet-a").Fits(seven))
	l.Observe(emptySubnet("subnet-a", "100.64.0.0/24", false, c.Now()))
	require.Empty(t, l.Owners())
}

func TestTwoHundredLaunchesAtOnceTakeRoomForFiftyFiftyTimes(t *testing.T) {
	l, c := newLedger()
	other := podnetwork.ENI{Instance: "i-other", Addresses: prefixes("100.64.0.4/32")}
	for i := range 110 { // of 510 blocks: 400 remain, 8 a node
		other.Prefixes = append(other.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte((i + 1) / 16), byte((i+1)%16) << 4}), podnetwork.BlockBits))
	}
	l.Observe(podnetwork.NewSnapshot("subnet-a", netip.MustParsePrefix("100.64.0.0/19"), []podnetwork.ENI{other}, podnetwork.Reservations{}, c.Now()))
	var granted atomic.Int32
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			if held, _ := l.Reserve(context.Background(), request(fmt.Sprint("claim-", i), seven, "a")); len(held) > 0 {
				granted.Add(1)
				l.Keep(podnetwork.Kept{Owner: fmt.Sprint("claim-", i), Subnet: "subnet-a", Instance: fmt.Sprint("i-", i), Need: seven})
			}
		})
	}
	all.Wait()
	require.Equal(t, int32(50), granted.Load())
}

// cloudSubnet is the truth behind the snapshots: what instances have taken of a subnet.
type cloudSubnet struct {
	id       string
	cidr     netip.Prefix
	reserved podnetwork.Reservations
	enis     map[string]*podnetwork.ENI
}

func (s *cloudSubnet) snapshot(now time.Time) *podnetwork.Snapshot {
	var enis []podnetwork.ENI
	for _, e := range s.enis {
		enis = append(enis, podnetwork.ENI{Instance: e.Instance, Addresses: slices.Clone(e.Addresses), Prefixes: slices.Clone(e.Prefixes)})
	}
	return podnetwork.NewSnapshot(s.id, s.cidr, enis, s.reserved, now)
}

// grow does what the agent of a node does: an ENI with its address anywhere, then a prefix at a time.
func (s *cloudSubnet) grow(random *rand.Rand, instance string, need podcapacity.Need) error {
	e, ok := s.enis[instance]
	if !ok {
		free := s.freeAddresses()
		if len(free) == 0 {
			return fmt.Errorf("no address left for the ENI of %s", instance)
		}
		s.enis[instance] = &podnetwork.ENI{Instance: instance, Addresses: []netip.Prefix{free[random.IntN(len(free))]}}
		return nil
	}
	if len(e.Prefixes) == need.Prefixes {
		return nil
	}
	now := s.snapshot(time.Time{})
	var free []netip.Prefix
	for i, block := range now.Blocks {
		if block == podnetwork.BlockFree {
			free = append(free, s.block(i))
		}
	}
	if len(free) == 0 {
		return fmt.Errorf("no /28 left for %s, which has %d of %d", instance, len(e.Prefixes), need.Prefixes)
	}
	e.Prefixes = append(e.Prefixes, free[random.IntN(len(free))])
	return nil
}

func (s *cloudSubnet) block(i int) netip.Prefix {
	base := s.cidr.Addr().As4()
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{base[0], base[1], base[2] + byte(i/16), byte(i%16) << 4}), podnetwork.BlockBits)
}

func (s *cloudSubnet) freeAddresses() (free []netip.Prefix) {
	taken := map[netip.Addr]bool{}
	for _, e := range s.enis {
		for _, p := range append(slices.Clone(e.Addresses), e.Prefixes...) {
			for a := p.Addr(); p.Contains(a); a = a.Next() {
				taken[a] = true
			}
		}
	}
	last := s.block(1<<(podnetwork.BlockBits-s.cidr.Bits()) - 1)
	for a := s.cidr.Addr().Next().Next().Next().Next(); s.cidr.Contains(a); a = a.Next() {
		inReservation := slices.ContainsFunc(s.reserved.Prefix, func(r netip.Prefix) bool { return r.Contains(a) })
		if !taken[a] && !inReservation && (a.Next().IsValid() && s.cidr.Contains(a.Next()) || !last.Contains(a)) {
			free = append(free, netip.PrefixFrom(a, 32))
		}
	}
	return free
}

// Whatever happens in whatever order, a node that was launched gets all that it was promised, and when all nodes are gone all
// is there again.
func TestNoNodeIsEverWithoutWhatItWasPromised(t *testing.T) {
	for seed := range uint64(60) {
		for _, apart := range []bool{false, true} {
			t.Run(fmt.Sprint(seed, apart), func(t *testing.T) { runLedgerAgainstCloud(t, rand.New(rand.NewPCG(seed, 1)), apart) })
		}
	}
}

type launch struct {
	need podcapacity.Need
	held []podnetwork.Place
}

type liveNode struct {
	claim, subnet, instance string
	need                    podcapacity.Need
	stamped                 bool
}

func runLedgerAgainstCloud(t *testing.T, random *rand.Rand, apart bool) {
	l, c := newLedger()
	subnets := map[string]*cloudSubnet{}
	for i, zone := range []string{"a", "b"} {
		s := &cloudSubnet{id: "subnet-" + zone, cidr: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(i * 4), 0}), 23), enis: map[string]*podnetwork.ENI{}}
		if apart {
			s.reserved.Prefix = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(i*4 + 1), 0}), 24)}
		}
		subnets[s.id] = s
		l.Observe(s.snapshot(c.Now()))
	}
	room := l.Room("subnet-a").Nodes(seven)
	nodes := map[string]*liveNode{}
	launching := map[string]launch{}
	names := 0
	pick := func() *liveNode {
		if len(nodes) == 0 {
			return nil
		}
		return nodes[slices.Sorted(maps.Keys(nodes))[random.IntN(len(nodes))]]
	}
	for range 400 {
		c.Step(time.Second)
		switch random.IntN(10) {
		case 0, 1, 2: // a launch begins
			names++
			owner := fmt.Sprint("claim-", names)
			need := podcapacity.Need{Prefixes: 1 + random.IntN(7), ENIs: 1}
			canceled, cancel := context.WithCancel(context.Background())
			cancel() // do not wait for others
			if held, _ := l.Reserve(canceled, request(owner, need, "a", "b")); len(held) > 0 {
				launching[owner] = launch{need, held}
			}
		case 3: // EC2 answers the launches that are under way
			for _, owner := range slices.Sorted(maps.Keys(launching)) {
				if random.IntN(4) == 0 {
					l.Release(owner)
				} else {
					chosen := launching[owner].held[random.IntN(len(launching[owner].held))]
					n := &liveNode{claim: owner, subnet: chosen.Subnet, instance: "i-" + owner, need: launching[owner].need}
					l.Keep(podnetwork.Kept{Owner: owner, Subnet: chosen.Subnet, Instance: n.instance, Need: n.need})
					nodes[owner] = n
				}
				delete(launching, owner)
			}
		case 4, 5, 6: // an agent takes something
			if n := pick(); n != nil {
				require.NoError(t, subnets[n.subnet].grow(random, n.instance, n.need))
			}
		case 7: // the NodeClaim is seen, or the node ends
			if n := pick(); n != nil && !n.stamped {
				l.Stamped(n.claim, n.subnet, n.need, n.instance)
				n.stamped = true
			} else if n != nil {
				delete(subnets[n.subnet].enis, n.instance)
				delete(nodes, n.claim)
				l.Gone(n.claim)
			}
		case 8: // a subnet is read
			for _, s := range subnets {
				l.Observe(s.snapshot(c.Now()))
			}
		case 9: // the controller is killed; what was under way had not reached EC2
			if random.IntN(5) > 0 {
				continue
			}
			l = podnetwork.NewLedger(c)
			for _, s := range subnets {
				l.Observe(s.snapshot(c.Now()))
			}
			for _, n := range nodes {
				l.Stamped(n.claim, n.subnet, n.need, n.instance)
				n.stamped = true
			}
			clear(launching)
		}
		requirePromisesHold(t, subnets, nodes)
	}
	for owner := range launching {
		l.Release(owner)
	}
	for _, n := range nodes {
		l.Stamped(n.claim, n.subnet, n.need, n.instance)
		l.Gone(n.claim)
		delete(subnets[n.subnet].enis, n.instance)
	}
	for _, s := range subnets {
		l.Observe(s.snapshot(c.Now()))
	}
	require.Equal(t, room, l.Room("subnet-a").Nodes(seven), "capacity is lost")
	require.Empty(t, l.Owners())
}

// requirePromisesHold checks the truth, not the ledger: what is free suffices for what all nodes may still take.
func requirePromisesHold(t *testing.T, subnets map[string]*cloudSubnet, nodes map[string]*liveNode) {
	t.Helper()
	for _, s := range subnets {
		now := s.snapshot(time.Time{})
		var promised podcapacity.Need
		for _, n := range nodes {
			if n.subnet == s.id {
				promised = promised.Plus(n.need.Beyond(now.Held[n.instance]))
			}
		}
		require.GreaterOrEqual(t, now.Capacity.FreePrefixes, promised.Prefixes, "over-committed %s", s.id)
	}
}
