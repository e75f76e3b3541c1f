// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Zone compares what today's nodes take of the zone's pod subnets with what these have.
type Zone struct {
	Zone  string `json:"zone"`
	Nodes int    `json:"nodes"`
	Pods  int    `json:"pods"`
	// Need is what the zone's nodes take at the most, as the launch ledger sets it aside for nodes of their instance types; what those
	// that are on the pod network hold already is not in it.
	Need Amount `json:"need"`
	// Replacement is what the disruption budgets let replacements take besides, were all of them in this zone.
	Replacement Amount `json:"replacement"`
	Free        Amount `json:"free"`
	// Singles: so many of the nodes find no /28s, and SinglesNodes with single addresses, which hold fewer pods, have room for theirs.
	// ReplacementSingles is the same of replacements.
	Singles            int `json:"nodesBySingleAddresses"`
	SinglesNodes       int `json:"nodesWithSingleAddresses"`
	ReplacementSingles int `json:"replacementsBySingleAddresses"`
	// Without room: so many of the nodes, and of the replacements.
	Without            int `json:"nodesWithoutRoom"`
	ReplacementWithout int `json:"replacementsWithoutRoom"`
	// More nodes of the largest need that find room after today's and their replacements.
	More int `json:"moreNodes"`
	// MoreSingles of nodes with single addresses find room after those.
	MoreSingles int `json:"moreNodesWithSingleAddresses"`
	// Unknown: nothing is known of its pod subnets.
	Unknown bool `json:"unknown,omitempty"`
}

// Amount of pod addresses. An address that may break up a free /28 counts as one: see podnetwork.Charge.
type Amount struct {
	Prefixes  int `json:"prefixes"`
	Addresses int `json:"addresses"`
}

func amount(c podnetwork.Charge) Amount { return Amount{Prefixes: c.Blocks, Addresses: c.Addresses} }

func (a Amount) plus(b Amount) Amount {
	return Amount{a.Prefixes + b.Prefixes, a.Addresses + b.Addresses}
}

// Subnet with its map.
type Subnet struct {
	Zone      string `json:"zone"`
	ENIConfig string `json:"eniConfig,omitempty"`
	ID        string `json:"id,omitempty"`
	CIDR      string `json:"cidr"`
	// Role is pods or nodes.
	Role string `json:"role"`
	// Planned: it does not exist yet.
	Planned       bool `json:"planned,omitempty"`
	FreePrefixes  int  `json:"freePrefixes"`
	FreeAddresses int  `json:"freeAddresses"`
	Reserved      int  `json:"reserved"`
	Fragmentation int  `json:"fragmentation"`
	// Blocks has a character for each /28: see podnetwork.Block.
	Blocks string `json:"blocks,omitempty"`
}

// Roles of a Subnet.
const (
	RolePods  = "pods"
	RoleNodes = "nodes"
)

func (p *planner) zones() {
	accounts := p.accounts()
	for _, g := range p.groups {
		for _, n := range g.nodes {
			a := accounts[n.Zone]
			a.Nodes++
			a.Pods += n.Pods
			a.take(n, demandOf(g, n))
		}
	}
	for _, g := range p.groups {
		meanwhile := 0
		for zone, a := range accounts {
			if len(g.zones) == 0 || slices.Contains(g.zones, zone) {
				meanwhile = max(meanwhile, a.replace(g.AtOnce, demand{need: g.most, singles: g.singles, pods: g.fullest}))
			}
		}
		p.moreENIs += meanwhile // they are in one zone or another
	}
	for _, zone := range slices.Sorted(maps.Keys(accounts)) {
		a := accounts[zone]
		a.more()
		p.moreENIs += a.moreENIs
		p.report.Zones = append(p.report.Zones, a.Zone)
		p.judgeZone(a)
	}
	p.drawSubnets()
	p.judgeNodeSubnets(accounts)
}

// accounts of the zones that nodes, node classes or pod subnets are in.
func (p *planner) accounts() map[string]*account {
	accounts := map[string]*account{}
	open := func(zone string) *account {
		if accounts[zone] == nil {
			accounts[zone] = &account{Zone: Zone{Zone: zone, Unknown: p.facts.VPC == nil}}
		}
		return accounts[zone]
	}
	for _, nodeClass := range p.nodeClasses {
		for _, s := range nodeClass.Status.Subnets {
			open(s.Zone)
		}
	}
	for _, n := range p.inScope() {
		open(n.Zone)
	}
	for _, s := range p.podSubnets {
		a := open(s.zone)
		if s.snapshot == nil {
			a.Unknown = true
			continue
		}
		c := s.snapshot.Capacity
		free := podnetwork.Charge{Blocks: c.FreePrefixes, Addresses: c.FreeAddresses}
		a.rooms = append(a.rooms, room{podnetwork.Room{Known: true, Free: free, Apart: c.Reserved > 0}, s})
		a.Free = a.Free.plus(amount(free))
	}
	return accounts
}

// judgeZone says the worst of a zone: who reads that nodes find no room need not read that others have to make do.
func (p *planner) judgeZone(a *account) {
	if a.Unknown || len(a.rooms) == 0 || len(p.podSubnets) == 0 { // a zone without any is told of elsewhere
		return
	}
	short := fmt.Sprintf("zone %s: %d of %s would find no room in the pod subnets (%s)", a.Zone.Zone, a.Without, counted(a.Nodes, "node"), a.comparison(a.Need))
	enlarge := "add a pod subnet to the zone (spec.eniConfigs.nodeLabel k8s.amazonaws.com/eniConfig takes several a zone) or use larger ones; " +
		"lower spec.maxPods.limit to let each node take less"
	singles := "they hold fewer pods, so that more nodes are launched; from then on /28s come free only as whole nodes go"
	switch {
	case a.Without > 0:
		p.found.add(Harm, ReasonInsufficientCapacity, short, "Karpenter would not launch nodes in place of those, and their pods would stay pending", enlarge)
	case a.ReplacementWithout > 0:
		p.found.add(Warning, ReasonNoRoomToReplace, fmt.Sprintf("zone %s: today's nodes fit, and %d of the %s that the disruption budgets let Karpenter launch at once do not (%s)",
			a.Zone.Zone, a.ReplacementWithout, counted(a.atOnce, "replacement"), a.comparison(a.Need.plus(a.Replacement))),
			"a node is there until its replacement is ready; with less room nodes are replaced more slowly, or in other zones", "lower the NodePools' disruption budgets for reason Drifted, or "+enlarge)
	case a.Singles > 0:
		p.found.add(Warning, ReasonSingleAddresses, fmt.Sprintf("zone %s: %d of %s would find no /28s, and be replaced by %s with single addresses (%d addresses needed at the most, %d free)",
			a.Zone.Zone, a.Singles, counted(a.Nodes, "node"), counted(a.SinglesNodes, "node"), a.Need.Addresses, a.Free.Addresses), singles, enlarge)
	case a.ReplacementSingles > 0:
		p.found.add(Warning, ReasonSingleAddresses, fmt.Sprintf("zone %s: today's nodes fit, and %d of the %s that the disruption budgets let Karpenter launch at once would have single addresses (%d addresses needed at the most, %d free)",
			a.Zone.Zone, a.ReplacementSingles, counted(a.atOnce, "replacement"), a.Need.Addresses+a.Replacement.Addresses, a.Free.Addresses), singles, "lower the NodePools' disruption budgets for reason Drifted, or "+enlarge)
	}
}

func (a *account) comparison(need Amount) string {
	if need.Prefixes > 0 {
		return fmt.Sprintf("%d /28s needed at the most, %d free; %d addresses free", need.Prefixes, a.Free.Prefixes, a.Free.Addresses)
	}
	return fmt.Sprintf("%d addresses needed at the most, %d free", need.Addresses, a.Free.Addresses)
}

// drawSubnets of pods, and of nodes.
func (p *planner) drawSubnets() {
	drawn := map[string]bool{}
	draw := func(s Subnet, snapshot *podnetwork.Snapshot) {
		if drawn[s.CIDR] {
			return
		}
		drawn[s.CIDR] = true
		if snapshot != nil {
			c := snapshot.Capacity
			s.FreePrefixes, s.FreeAddresses, s.Reserved, s.Fragmentation, s.Blocks = c.FreePrefixes, c.FreeAddresses, c.Reserved, c.Fragmentation, snapshot.Blocks.String()
		}
		p.report.Subnets = append(p.report.Subnets, s)
	}
	for _, s := range p.podSubnets {
		draw(Subnet{Zone: s.zone, ENIConfig: s.eniConfig, ID: s.ID, CIDR: s.CIDR.String(), Role: RolePods, Planned: s.planned}, s.snapshot)
		p.judgeFragmentation(s)
	}
	for _, id := range p.nodeSubnets() {
		s := p.facts.Subnets[id]
		draw(Subnet{Zone: s.Zone, ID: s.ID, CIDR: s.CIDR.String(), Role: RoleNodes}, p.facts.Snapshots[id])
	}
	slices.SortStableFunc(p.report.Subnets, func(a, b Subnet) int {
		return cmp.Or(-strings.Compare(a.Role, b.Role), strings.Compare(a.Zone, b.Zone))
	})
}

// nodeSubnets that are known, sorted: those of the node classes, or without any, those that nodes are in.
func (p *planner) nodeSubnets() []string {
	ids := map[string]bool{}
	for _, nodeClass := range p.nodeClasses {
		for _, s := range nodeClass.Status.Subnets {
			ids[s.ID] = true
		}
	}
	if len(ids) == 0 {
		for _, id := range p.facts.NodeSubnets {
			ids[id] = true
		}
	}
	return lo.Filter(slices.Sorted(maps.Keys(ids)), func(id string, _ int) bool {
		_, known := p.facts.Subnets[id]
		return known
	})
}

// fragmented is the share of free addresses in no free /28, in percent, from which somebody should know. A fresh subnet of a /24 has 13.
const fragmented = 30

func (p *planner) judgeFragmentation(s podSubnet) {
	if s.snapshot == nil || s.snapshot.Capacity.Fragmentation < fragmented || p.facts.Network.Spec.Addressing.PrefixDelegation == v1alpha1.Disabled {
		return
	}
	c := s.snapshot.Capacity
	p.found.add(Warning, ReasonFragmented,
		fmt.Sprintf("pod subnet %s (%s, %s) is fragmented: %d addresses are free, and only %d /28s; %d%% of what is free cannot be delegated", s.ID, s.CIDR, s.zone, c.FreeAddresses, c.FreePrefixes, c.Fragmentation),
		"single addresses lie all over it, and a prefix takes an aligned /28 that nothing touches",
		"keep everything else out of pod subnets, and create a subnet CIDR reservation of type prefix where it is free; or use a new subnet")
}

// judgeNodeSubnets: each replacement takes an address there before the old node gives its own back.
func (p *planner) judgeNodeSubnets(accounts map[string]*account) {
	free, known := map[string]int{}, map[string]bool{}
	for _, id := range p.nodeSubnets() {
		if snapshot := p.facts.Snapshots[id]; snapshot != nil {
			zone := p.facts.Subnets[id].Zone
			known[zone] = true
			free[zone] += snapshot.Capacity.FreeAddresses
		}
	}
	var full []string
	for _, zone := range slices.Sorted(maps.Keys(known)) {
		if free[zone] == 0 && accounts[zone] != nil && accounts[zone].Nodes > 0 {
			full = append(full, zone)
		}
	}
	if len(full) == 0 {
		return
	}
	severity, what := Warning, "the node subnets of "+cli.Some(full)+" have no free address"
	if len(full) == len(known) {
		severity, what = Harm, "no node subnet has a free address ("+cli.Some(full)+")"
	}
	p.found.add(severity, ReasonNodeSubnetFull, what, "each replacement needs one address there before the old node gives back its own and those of its pods",
		"free a few: let aws-node keep fewer warm addresses (kubectl -n kube-system set env daemonset aws-node -c aws-node WARM_IP_TARGET=1 MINIMUM_IP_TARGET=1), or scale a Deployment down for the time; or add a node subnet")
}
