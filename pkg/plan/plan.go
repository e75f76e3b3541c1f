// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Report of a plan.
type Report struct {
	PodNetwork string `json:"podNetwork"`
	// From is where the PodNetwork was read: the cluster, a proposal or a file.
	From    string `json:"from"`
	Cluster string `json:"cluster,omitempty"`
	// ClusterName is what AWS's tags call the cluster.
	ClusterName string `json:"clusterName,omitempty"`
	Region      string `json:"region,omitempty"`
	VPC         string `json:"vpc,omitempty"`
	// Harm: some finding has that severity.
	Harm      bool      `json:"harm"`
	Installed Installed `json:"installed"`
	Findings  []Finding `json:"findings"`
	NodePools []Pool    `json:"nodePools"`
	Zones     []Zone    `json:"zones"`
	Subnets   []Subnet  `json:"subnets"`
	Quotas    []Limit   `json:"quotas,omitempty"`
	// PricesFrom says where prices are from, "" without prices.
	PricesFrom string `json:"pricesFrom,omitempty"`
	// PendingPods have no node today. They are in no figure.
	PendingPods int      `json:"pendingPods"`
	Unread      []Unread `json:"unread,omitempty"`

	// Network that the plan is for, for the manifests.
	Network *v1alpha1.PodNetwork `json:"-"`
	facts   *Facts
}

// Make a plan.
func Make(facts Facts) Report {
	facts.Network = facts.Network.DeepCopy()
	p := &planner{facts: &facts, shapes: newShapes(&facts)}
	p.choose()
	p.propose()
	p.installation()
	p.resolve()
	p.provision()
	p.pools()
	p.zones()
	p.ranges()
	p.transit()
	p.routes()
	p.vpcCNI()
	p.leftAlone()
	p.fargate()
	p.quotas()
	p.denied()
	p.report.PodNetwork, p.report.From, p.report.Network = facts.Network.Name, facts.From, facts.Network
	p.report.Cluster, p.report.ClusterName, p.report.Region, p.report.Installed = facts.Cluster, facts.ClusterName, facts.Region, facts.Installed
	p.report.PricesFrom, p.report.PendingPods, p.report.Unread = facts.PricesFrom, facts.PendingPods, facts.Unread
	if facts.VPC != nil {
		p.report.VPC = facts.VPC.ID
	}
	p.report.Findings = p.found.sorted()
	p.report.Harm = slices.ContainsFunc(p.report.Findings, func(f Finding) bool { return f.Severity == Harm })
	p.report.facts = &facts
	return p.report
}

type planner struct {
	facts  *Facts
	shapes *shapes
	found  findings
	report Report

	nodeClasses []ec2nodeclass.EC2NodeClass // that the network selects
	groups      []group
	podSubnets  []podSubnet
	// declared CIDRs of spec.provision, and how many of them the VPC does not have.
	declared  []netip.Prefix
	newBlocks int
	// moreENIs that the nodes take than today.
	moreENIs int
}

// podSubnet serves a zone.
type podSubnet struct {
	zone, eniConfig string
	podnetwork.Subnet
	// snapshot is nil where EC2 was not read.
	snapshot *podnetwork.Snapshot
	// planned: it does not exist yet. routeTable is the one that it gets.
	planned    bool
	routeTable string
}

func (p *planner) choose() {
	for _, nodeClass := range p.facts.NodeClasses {
		// A selector that cannot be read selects nothing; the API server refuses it anyway.
		if selected, err := podnetwork.Selects(p.facts.Network, &nodeClass); err == nil && selected {
			p.nodeClasses = append(p.nodeClasses, nodeClass)
		}
	}
}

// installation says what the cluster lacks before anything can be applied.
func (p *planner) installation() {
	if !p.facts.Installed.PodNetworks {
		p.found.add(Info, ReasonNotInstalled, "this cluster does not know PodNetworks yet", "Dovetail's custom resources are not installed",
			"install the chart dovetail-crd, then the chart dovetail")
	} else if !p.facts.Installed.ENIConfigs {
		p.found.add(Warning, ReasonNotInstalled, "this cluster does not know ENIConfigs", "they name the pod subnets, and no node is launched without",
			"install the chart dovetail-crd, or the custom resource of the Amazon VPC CNI")
	}
	if !p.facts.Installed.Karpenter {
		p.found.add(Warning, ReasonKarpenterMissing, "this cluster has no Karpenter", "a pod network is for nodes that Karpenter launches; nothing here would",
			"install the chart dovetail, whose controller is Karpenter, and create an EC2NodeClass and a NodePool")
	}
	for _, other := range p.facts.Others {
		for i := range p.nodeClasses {
			if selected, err := podnetwork.Selects(&other, &p.nodeClasses[i]); err == nil && selected {
				p.found.add(Harm, ReasonNodeClassConflict, "EC2NodeClass "+p.nodeClasses[i].Name+" would be on two PodNetworks, "+p.facts.Network.Name+" and "+other.Name,
					"only the older of them counts, so that a part of the other has no effect", "set spec.nodeClassSelector of both so that each EC2NodeClass is on one")
			}
		}
	}
}

// fixes of what podnetwork.Resolve finds.
var fixes = map[string]struct{ why, fix string }{
	podnetwork.ReasonIPv6Cluster:           {"IPv6 pods have addresses enough of the node subnet", "leave this cluster as it is"},
	podnetwork.ReasonNoNodeClass:           {"the zones and the VPC of a pod network are those of its node classes", "create an EC2NodeClass and a NodePool, or change spec.nodeClassSelector"},
	podnetwork.ReasonENIConfigMissing:      {"a node's pod ENI lies in the subnet that its ENIConfig names", "create one for that zone (dovetail plan --write DIR begins it)"},
	podnetwork.ReasonSubnetNotFound:        {"no ENI can be made in it", "correct spec.subnet of the ENIConfig"},
	podnetwork.ReasonSubnetInOtherZone:     {"EC2 attaches ENIs to instances of their own zone only", "name a subnet of the zone in the ENIConfig"},
	podnetwork.ReasonSubnetInOtherVPC:      {"EC2 attaches ENIs to instances of their own VPC only", "name a subnet of the nodes' VPC in the ENIConfig"},
	podnetwork.ReasonSecurityGroupNotFound: {"EC2 refuses ENIs with a group that does not exist", "correct spec.securityGroups of the ENIConfig"},
	podnetwork.ReasonSecurityGroupOtherVPC: {"EC2 refuses ENIs with a group of another VPC", "name groups of the nodes' VPC in the ENIConfig"},
}

// resolve finds the pod subnets, as the controller does.
func (p *planner) resolve() {
	network := p.facts.Network
	if p.facts.VPC == nil && !p.facts.IPv6 {
		return // nothing can be said about subnets
	}
	view := podnetwork.View{IPv6: p.facts.IPv6, NodeClasses: p.nodeClasses, Subnets: p.facts.Subnets, SecurityGroups: p.facts.SecurityGroups}
	selector, err := metav1.LabelSelectorAsSelector(&network.Spec.ENIConfigs.Selector)
	for _, config := range p.facts.ENIConfigs {
		if err == nil && selector.Matches(labels.Set(config.Labels)) {
			view.ENIConfigs = append(view.ENIConfigs, config)
		}
	}
	resolution := podnetwork.Resolve(network, view)
	for _, zone := range resolution.Zones {
		p.podSubnets = append(p.podSubnets, podSubnet{
			zone: zone.Zone, eniConfig: zone.ENIConfig, Subnet: p.facts.Subnets[zone.Subnet], snapshot: p.facts.Snapshots[zone.Subnet],
		})
	}
	severity := Warning // the other zones take the nodes
	if len(resolution.Zones) == 0 {
		severity = Harm
	}
	for _, problem := range resolution.Problems {
		if problem.Reason == podnetwork.ReasonNoNodeClass && !p.facts.Installed.Karpenter {
			continue // said already
		}
		if problem.Reason == podnetwork.ReasonENIConfigMissing && network.Spec.Provision != nil {
			continue // it is to be written
		}
		if p.blind(problem.Reason) {
			continue
		}
		p.found.add(severity, problem.Reason, problem.Message, fixes[problem.Reason].why, fixes[problem.Reason].fix)
	}
	if obstacles, all := podnetwork.StaticObstacles(network, view); len(obstacles) > 0 {
		for _, obstacle := range obstacles {
			why := "nodes of that node class or subnet allocate dynamically instead"
			if all {
				why = "all nodes would allocate dynamically instead"
			}
			p.found.add(Warning, ReasonStatic, obstacle.Message, why, "")
		}
	}
}
