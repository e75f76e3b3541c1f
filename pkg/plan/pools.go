// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	coreprovisioning "sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// hoursPerMonth of AWS's calculator.
const hoursPerMonth = 730

// Pool is a NodePool, or all nodes that Karpenter does not own.
type Pool struct {
	// Name of the NodePool, "" for nodes that Karpenter does not own.
	Name      string `json:"name"`
	NodeClass string `json:"nodeClass,omitempty"`
	Nodes     int    `json:"nodes"`
	Pods      int    `json:"pods"`
	// AtOnce is how many nodes its disruption budgets let be replaced at a time; nodes that Karpenter does not own have none.
	AtOnce int `json:"atOnce"`
	// InstanceTypes that it can launch, and those that its nodes are of.
	InstanceTypes []PoolType `json:"instanceTypes"`
}

// PoolType is an instance type of a pool.
type PoolType struct {
	Name  string `json:"name"`
	Nodes int    `json:"nodes"`
	// Now and After are max-pods. 0 after: the type has no ENI for pods and is not launched any more.
	Now   int `json:"maxPodsNow"`
	After int `json:"maxPodsAfter"`
	// Prefixes and Addresses that a node takes of its pod subnet at the most; an address for each pod ENI is among them.
	Prefixes  int `json:"prefixes"`
	Addresses int `json:"addresses"`
	// USDPerHour on demand. USDPerPodNow and -After are for a month of a pod on a node that is full; 0 where no price is known.
	USDPerHour     float64 `json:"usdPerHour,omitempty"`
	USDPerPodNow   float64 `json:"usdPerPodMonthNow,omitempty"`
	USDPerPodAfter float64 `json:"usdPerPodMonthAfter,omitempty"`
}

// group of nodes that are planned for together.
type group struct {
	Pool
	nodes []Node
	types []shape
	// zones that it launches in.
	zones []string
	// most that one of its nodes needs, and what one is where only single addresses are left; nil where that is not launched.
	most    podcapacity.Need
	singles *launch.SingleAddresses
	// fullest of its nodes has so many pods.
	fullest int
}

// nodeClassOf a NodePool, if the network selects it.
func (p *planner) nodeClassOf(pool *karpv1.NodePool) (ec2nodeclass.EC2NodeClass, bool) {
	ref := pool.Spec.Template.Spec.NodeClassRef
	return lo.Find(p.nodeClasses, func(c ec2nodeclass.EC2NodeClass) bool { return ref != nil && c.Name == ref.Name })
}

func (p *planner) pools() {
	byPool := lo.GroupBy(p.inScope(), func(n Node) string { return n.NodePool })
	for _, pool := range p.facts.NodePools {
		nodeClass, ok := p.nodeClassOf(&pool)
		if !ok {
			continue
		}
		wants := coreprovisioning.NewNodeClaimTemplate(&pool).Requirements
		all := lo.Map(p.shapes.of(&nodeClass), func(s shape, _ int) shape {
			if s.singles != nil && s.singles.Of(s.requirements).Intersects(wants) != nil {
				s.singles = nil // who asks for a max-pods gets no node that has less
			}
			return s
		})
		types := lo.Filter(all, func(s shape, _ int) bool { return s.requirements.Intersects(wants) == nil })
		zones := lo.Uniq(lo.Map(nodeClass.Status.Subnets, func(s ec2nodeclass.Subnet, _ int) string { return s.Zone }))
		g := newGroup(pool.Name, nodeClass.Name, byPool[pool.Name], types, all, zones)
		g.AtOnce = atOnce(&pool, len(g.nodes))
		p.judgeTypes(g)
		p.groups = append(p.groups, g)
	}
	if others := byPool[""]; len(others) > 0 {
		p.groups = append(p.groups, newGroup("", "", others, nil, p.shapes.of(unmanaged), nil))
	}
	slices.SortStableFunc(p.groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(lo.Ternary(a.Name == "", 1, 0), lo.Ternary(b.Name == "", 1, 0)), cmp.Compare(a.Name, b.Name))
	})
	for _, g := range p.groups {
		p.report.NodePools = append(p.report.NodePools, g.Pool)
	}
}

// inScope are nodes that a pod network can concern.
func (p *planner) inScope() []Node {
	return lo.Reject(p.facts.Nodes, func(n Node, _ int) bool { return n.Fargate || n.Windows })
}

// newGroup of nodes. Types are those that can be launched, all those that are known with the node class.
func newGroup(name, nodeClass string, nodes []Node, types, all []shape, zones []string) group {
	g := group{Pool: Pool{Name: name, NodeClass: nodeClass, Nodes: len(nodes)}, nodes: nodes, zones: zones}
	used := lo.CountValuesBy(nodes, func(n Node) string { return n.InstanceType })
	for _, n := range nodes {
		g.Pods += n.Pods
		g.fullest = max(g.fullest, n.Pods)
	}
	names := map[string]bool{}
	for _, s := range types {
		names[s.name] = true
	}
	g.types = slices.Clone(types)
	for name := range used {
		if s, ok := find(all, name); ok && !names[name] {
			g.types = append(g.types, s)
		}
	}
	slices.SortFunc(g.types, func(a, b shape) int { return cmp.Compare(a.name, b.name) })
	for _, s := range g.types {
		g.InstanceTypes = append(g.InstanceTypes, PoolType{
			Name: s.name, Nodes: used[s.name], Now: s.now, After: s.after, Prefixes: s.need.Prefixes, Addresses: s.need.Addresses + s.need.ENIs,
			USDPerHour: s.price, USDPerPodNow: perPod(s.price, s.now), USDPerPodAfter: perPod(s.price, s.after),
		})
		// What is launched in place of a node may be of any type of the pool; what a pool has nodes of tells more than what it might have.
		if len(nodes) == 0 || used[s.name] > 0 {
			g.most, g.singles = largest(g.most, s.need), worse(g.singles, s.singles)
		}
	}
	return g
}

// worse of two ways to launch nodes with single addresses, in each regard; nil is none.
func worse(a, b *launch.SingleAddresses) *launch.SingleAddresses {
	if a == nil || b == nil {
		return lo.CoalesceOrEmpty(a, b)
	}
	return &launch.SingleAddresses{MaxPods: min(a.MaxPods, b.MaxPods), Need: largest(a.Need, b.Need)}
}

// perPod is USD a month, on a node that is full.
func perPod(hourly float64, maxPods int) float64 {
	if maxPods == 0 {
		return 0
	}
	return math.Round(hourly*hoursPerMonth/float64(maxPods)*1000) / 1000
}

// atOnce is what a pool's budgets allow at any time: those with a schedule are there at times only.
func atOnce(pool *karpv1.NodePool, nodes int) int {
	allowed := nodes
	for _, budget := range pool.Spec.Disruption.Budgets {
		if budget.Schedule != nil || budget.Reasons != nil && !slices.Contains(budget.Reasons, karpv1.DisruptionReasonDrifted) {
			continue
		}
		// Without a schedule no clock is asked.
		if n, err := budget.GetAllowedDisruptions(nil, nodes); err == nil {
			allowed = min(allowed, n)
		}
	}
	return allowed
}

// judgeTypes that a pool can launch.
func (p *planner) judgeTypes(g group) {
	if len(p.facts.InstanceTypes) == 0 {
		return
	}
	pool := "NodePool " + g.Name
	none := lo.Filter(g.InstanceTypes, func(t PoolType, _ int) bool { return t.After == 0 })
	fewer := lo.Filter(g.InstanceTypes, func(t PoolType, _ int) bool { return t.After > 0 && t.After < t.Now })
	slices.SortStableFunc(fewer, func(a, b PoolType) int {
		return cmp.Or(cmp.Compare(b.Nodes, a.Nodes), cmp.Compare(b.Now-b.After, a.Now-a.After), cmp.Compare(a.Name, b.Name))
	})
	switch used := lo.Filter(none, func(t PoolType, _ int) bool { return t.Nodes > 0 }); {
	case len(none) == len(g.InstanceTypes):
		p.found.add(Harm, ReasonNoInstanceType, fmt.Sprintf("%s could launch nothing: none of its %s has an ENI for pods", pool, counted(len(none), "instance type")),
			"on a pod network the primary ENI carries no pods", "allow instance types with more ENIs in its requirements, or leave its EC2NodeClass out by spec.nodeClassSelector")
	case len(none) > 0:
		severity := Info
		if len(used) > 0 {
			severity = Warning
		}
		p.found.add(severity, ReasonTypesNotOffered,
			fmt.Sprintf("%s would no longer launch %s: %s", pool, counted(len(none), "instance type"), cli.Some(lo.Map(append(used, lo.Without(none, used...)...), func(t PoolType, _ int) string { return t.Name }))),
			"their default network card takes no ENI for pods besides the primary one", "nothing, if its other instance types do; else leave its EC2NodeClass out by spec.nodeClassSelector")
	}
	if len(fewer) > 0 {
		severity := Info
		if fewer[0].Nodes > 0 {
			severity = Warning
		}
		p.found.add(severity, ReasonFewerPods,
			fmt.Sprintf("%s of %s would hold fewer pods a node than today: %s", counted(len(fewer), "instance type"), pool,
				cli.Some(lo.Map(fewer, func(t PoolType, _ int) string { return fmt.Sprintf("%s %d instead of %d", t.Name, t.After, t.Now) }))),
			"one ENI less carries pods, and without Nitro no prefixes make up for it; or max-pods was above what Amazon EKS recommends",
			"let the pool require dovetail.dev/max-pods of the size that you want, or set spec.maxPods.policy to Maximum")
	}
}
