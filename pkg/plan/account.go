// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// account of a zone while nodes are placed in it.
type account struct {
	Zone
	rooms []room
	// most that a node needs, and what one is where only single addresses are left.
	most    podcapacity.Need
	singles *launch.SingleAddresses
	// atOnce is how many nodes the node subnets of the zone must take while nodes are replaced.
	atOnce int
	// moreENIs than there are today, once all nodes are replaced.
	moreENIs int
}

type room struct {
	podnetwork.Room
	subnet podSubnet
}

// demand of a node that is to be launched.
type demand struct {
	need podcapacity.Need
	// singles is what the node is where only single addresses are left, nil where none is launched then.
	singles *launch.SingleAddresses
	// pods that need it.
	pods int
}

// demandOf the node that is launched in place of one of a group.
func demandOf(g group, n Node) demand {
	s, ok := find(g.types, n.InstanceType)
	if !ok || s.after == 0 { // it would be replaced by another type
		return demand{need: g.most, singles: g.singles, pods: n.Pods}
	}
	return demand{need: s.need, singles: s.singles, pods: n.Pods}
}

// nodes with single addresses that hold the pods.
func (d demand) nodes() int {
	each := max(d.singles.MaxPods-podcapacity.HostNetworkPods, 1)
	return max((d.pods+each-1)/each, 1)
}

// take what a node needs. One that is on the pod network holds a part already, in its own subnet; another goes where there is the most
// room, as launches do.
func (a *account) take(n Node, d demand) {
	a.most, a.singles = largest(a.most, d.need), worse(a.singles, d.singles)
	for i := range a.rooms {
		r := &a.rooms[i]
		if held, on := r.subnet.snapshot.Held[n.Instance]; on && n.Instance != "" {
			if n.Singles && d.singles != nil {
				d.need = d.singles.Need
			}
			rest := d.need.Beyond(held)
			a.Need = a.Need.plus(r.set(rest))
			if n.PodNetwork == "" {
				a.moreENIs += rest.ENIs
			}
			return
		}
	}
	enis := 0
	if n.PodNetwork == "" {
		enis = d.need.ENIs
	}
	taken, ok := a.place(d.need)
	if !ok {
		if fewer, nodes, found := a.placeSingles(d); found {
			a.Singles++
			a.SinglesNodes += nodes
			taken, ok = fewer, true
			enis = nodes*(1+d.singles.Need.ENIs) - 1 // a node's own ENI is there already
		}
	}
	if !ok {
		a.Without++
	}
	a.Need, a.moreENIs = a.Need.plus(taken), a.moreENIs+enis
}

// largest of two needs, in each regard.
func largest(a, b podcapacity.Need) podcapacity.Need {
	return podcapacity.Need{Prefixes: max(a.Prefixes, b.Prefixes), Addresses: max(a.Addresses, b.Addresses), ENIs: max(a.ENIs, b.ENIs)}
}

// place a need in the subnet with the most room. Where none has enough, it says what the need would take.
func (a *account) place(need podcapacity.Need) (Amount, bool) {
	if len(a.rooms) == 0 {
		return amount(podnetwork.Room{}.Charge(need)), false
	}
	best := &a.rooms[0]
	for i := range a.rooms[1:] {
		if r := &a.rooms[i+1]; r.Nodes(need) > best.Nodes(need) {
			best = r
		}
	}
	if best.Nodes(need) == 0 {
		return amount(best.Charge(need)), false
	}
	return best.set(need), true
}

// placeSingles places nodes with single addresses for the pods of a node that finds no /28s in the zone: the next step of the ladder that
// launches go down. Nothing is placed where not all of them find room. They need no /28, though they may break some up.
func (a *account) placeSingles(d demand) (taken Amount, nodes int, ok bool) {
	if d.singles == nil {
		return Amount{}, 0, false
	}
	before := slices.Clone(a.rooms)
	for range d.nodes() {
		one, ok := a.place(d.singles.Need)
		if !ok {
			a.rooms = before
			return Amount{}, 0, false
		}
		taken.Addresses += one.Addresses
	}
	return taken, d.nodes(), true
}

// set a need aside.
func (r *room) set(need podcapacity.Need) Amount {
	charge := r.Charge(need)
	r.Aside.Blocks += charge.Blocks
	r.Aside.Addresses += charge.Addresses
	r.Promised = r.Promised || need.Prefixes > 0
	return amount(charge)
}

// replace so many nodes at once. It returns how many ENIs they have.
func (a *account) replace(nodes int, d demand) (enis int) {
	a.atOnce += nodes
	for range nodes {
		each := 1 + d.need.ENIs
		taken, ok := a.place(d.need)
		if !ok {
			if fewer, several, found := a.placeSingles(d); found {
				a.ReplacementSingles++
				taken, ok = fewer, true
				each = several * (1 + d.singles.Need.ENIs)
			}
		}
		if !ok {
			a.ReplacementWithout++
		}
		a.Replacement = a.Replacement.plus(taken)
		enis += each
	}
	return enis
}

// more nodes that find room besides: as long as there are /28s with them, then with single addresses.
func (a *account) more() {
	if a.most == (podcapacity.Need{}) {
		return
	}
	for i := range a.rooms {
		r := &a.rooms[i]
		nodes := r.Nodes(a.most)
		a.More += nodes
		if a.singles == nil {
			continue
		}
		for range nodes {
			r.set(a.most)
		}
		a.MoreSingles += r.Nodes(a.singles.Need)
	}
}
