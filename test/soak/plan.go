// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind of an action: what the load does, then what goes wrong.
type Kind string

// Kinds of actions.
const (
	Scale      Kind = "scale"       // a Deployment, to Count pods
	Recreate   Kind = "recreate"    // delete a Deployment, and make it anew
	DeletePods Kind = "delete-pods" // Count of them
	DeleteNode Kind = "delete-node" // as kubectl does
	Drift      Kind = "drift"       // change a NodePool, so that its nodes are replaced

	Throttle       Kind = "throttle"        // of an EC2 call
	LostReply      Kind = "lost-reply"      // the call takes effect, its answer is lost
	CallError      Kind = "error"           // EC2 answers an internal error, before or after the effect
	Latency        Kind = "latency"         // of an EC2 call
	NoCapacity     Kind = "capacity"        // of the pools of a zone
	FillSubnet     Kind = "fill-subnet"     // leave Count addresses of a pod subnet
	FragmentSubnet Kind = "fragment-subnet" // leave Count addresses, and no /28
	KillInstance   Kind = "kill-instance"
	HangInstance   Kind = "hang-instance"
	Interrupt      Kind = "interrupt" // a spot instance
	PauseServer    Kind = "pause"     // a part of the control plane, by SIGSTOP
	StopServer     Kind = "outage"    // a part of the control plane is not there
	KillAgent      Kind = "kill-agent"
	KillController Kind = "kill-controller"
	MetadataLag    Kind = "metadata-lag"
	MetadataError  Kind = "metadata-error"
)

// faultKinds are dealt like cards: each is drawn before any is drawn again.
var faultKinds = []Kind{
	Throttle, LostReply, CallError, Latency, NoCapacity, FillSubnet, FragmentSubnet, KillInstance, HangInstance, Interrupt,
	PauseServer, StopServer, KillAgent, KillController, MetadataLag, MetadataError,
}

// Action of a round. What it strikes is said by number, because what there is depends on what came before: Pick chooses from
// what there is then, in the order of names.
type Action struct {
	At   time.Duration // since the round began
	Kind Kind
	// On names a Deployment, an EC2 call, a zone or a part of the control plane.
	On string
	// Pick chooses among instances, nodes or pods.
	Pick uint32
	// Count of pods or addresses; of strikes, where a fault has single ones.
	Count int
	// For is how long it lasts.
	For time.Duration
	// After: the call does its work first.
	After bool
}

func (a Action) String() string {
	text := string(a.Kind)
	if a.On != "" {
		text += " " + a.On
	}
	if a.Count > 0 {
		text += fmt.Sprintf(" ×%d", a.Count)
	}
	if a.After {
		text += " after its effect"
	}
	if a.For > 0 {
		text += " for " + a.For.String()
	}
	return text
}

const (
	// busy is how long actions of a round begin.
	busy = 60 * time.Second
	// faultsPerRound are drawn from the deck.
	faultsPerRound = 6
	// calmEvery so many rounds all pods are deleted at the end, and nothing is to be left.
	calmEvery = 4
)

// Round is what happens in the n-th round, by time: a function of the seed and n, and of nothing else.
func Round(seed uint64, n int) []Action {
	random := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // to be repeated
	var actions []Action
	from, to := time.Duration(0), busy/3 // load first: what goes wrong then finds something
	add := func(a Action) {
		a.At, a.Pick = span(random, from, to), random.Uint32()
		actions = append(actions, a)
	}
	for _, s := range slots {
		add(Action{Kind: Scale, On: s.name, Count: 1 + random.IntN(s.most)})
	}
	from, to = busy/12, busy
	for range 2 {
		add(Action{Kind: DeletePods, Count: 1 + random.IntN(8)})
	}
	add(Action{Kind: []Kind{Recreate, DeleteNode, Drift}[random.IntN(3)], On: slots[random.IntN(len(slots))].name})
	for _, kind := range deal(seed, n) {
		add(fault(random, kind))
	}
	slices.SortStableFunc(actions, func(a, b Action) int { return cmp.Compare(a.At, b.At) })
	return actions
}

// lasts until the last of the actions has ended.
func lasts(actions []Action) (last time.Duration) {
	for _, a := range actions {
		last = max(last, a.At+a.For)
	}
	return last
}

// Calm tells whether everything is deleted at the end of the round.
func Calm(n int) bool { return n%calmEvery == calmEvery-1 }

// deal the faults of a round: from decks that are shuffled one after the other.
func deal(seed uint64, n int) (dealt []Kind) {
	for card := n * faultsPerRound; card < (n+1)*faultsPerRound; card++ {
		deck := slices.Clone(faultKinds)
		shuffle := rand.New(rand.NewPCG(seed, ^uint64(card/len(deck)))) //nolint:gosec // to be repeated; rounds count from the other end
		shuffle.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		dealt = append(dealt, deck[card%len(deck)])
	}
	return dealt
}

// Calls of EC2 that faults strike.
var (
	changingCalls = []string{
		"CreateFleet", "TerminateInstances", "CreateLaunchTemplate", "CreateNetworkInterface", "AttachNetworkInterface",
		"ModifyNetworkInterfaceAttribute", "AssignPrivateIpAddresses", "UnassignPrivateIpAddresses", "DeleteNetworkInterface", "CreateTags",
	}
	readingCalls = []string{"DescribeInstances", "DescribeNetworkInterfaces", "DescribeSubnets", "DescribeInstanceTypes", "Describe*"}
)

// fault of a kind. Of the control plane's parts, those whose absence stops everybody are away for a shorter time than leases last.
func fault(random *rand.Rand, kind Kind) Action {
	a := Action{Kind: kind}
	switch kind {
	case Throttle, CallError, Latency:
		a.On = one(random, slices.Concat(changingCalls, readingCalls))
		a.For = span(random, 10*time.Second, 30*time.Second)
		a.After = kind == CallError && random.IntN(2) == 0
	case LostReply:
		a.On, a.Count = one(random, changingCalls), 1+random.IntN(3)
	case NoCapacity:
		a.On, a.For = one(random, zones), span(random, 15*time.Second, 40*time.Second)
	case FillSubnet, FragmentSubnet:
		a.On, a.Count, a.For = one(random, zones), 1+random.IntN(80), span(random, 20*time.Second, 40*time.Second)
	case HangInstance:
		a.For = span(random, 10*time.Second, 50*time.Second)
	case PauseServer:
		a.On, a.For = one(random, []string{"etcd", "etcd", "apiserver", "controller-manager", "scheduler"}), span(random, 3*time.Second, 20*time.Second)
	case StopServer:
		a.On, a.For = one(random, []string{"apiserver", "apiserver", "etcd", "controller-manager", "scheduler"}), span(random, 3*time.Second, 15*time.Second)
	case MetadataLag, MetadataError:
		a.For = span(random, 10*time.Second, 30*time.Second)
	}
	return a
}

func one(random *rand.Rand, of []string) string { return of[random.IntN(len(of))] }

// span draws a time between two, in tenths of a second, so that a log of it is read easily.
func span(random *rand.Rand, low, high time.Duration) time.Duration {
	const step = 100 * time.Millisecond
	return low + time.Duration(random.Int64N(int64((high-low)/step)))*step
}
