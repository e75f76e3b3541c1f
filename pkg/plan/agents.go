// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/vpccni"
)

// vpcCNI must serve the nodes of agent VPCCNI, told the same as the PodNetwork, and keep off those of Dovetail's agent.
func (p *planner) vpcCNI() {
	network, daemonSet := p.facts.Network, p.facts.VPCCNI
	serves := podnetwork.AgentOf(network) == v1alpha1.AgentVPCCNI
	if daemonSet == nil {
		if serves && !p.couldNotRead(vpccni.DaemonSet) {
			p.found.add(Harm, ReasonVPCCNIMissing, "spec.agent is VPCCNI, and there is no DaemonSet aws-node in kube-system", "nothing would give the pods addresses", "install the Amazon VPC CNI, or set spec.agent to Dovetail")
		}
		return
	}
	var both, none []string
	for _, pool := range p.facts.NodePools {
		if _, on := p.nodeClassOf(&pool); !on {
			continue
		}
		switch selected := vpccni.SelectsLaunched(daemonSet, network, &pool); {
		case selected && !serves:
			both = append(both, pool.Name)
		case !selected && serves:
			none = append(none, pool.Name)
		}
	}
	patch, err := vpccni.PatchCommand(daemonSet)
	if err != nil {
		patch = err.Error()
	}
	if len(both) > 0 {
		p.found.add(Harm, ReasonVPCCNIOnNodes, "aws-node selects the nodes that Dovetail's agent would serve: of "+counted(len(both), "NodePool")+", "+cli.Some(both),
			"two programs would manage the ENIs of one node; the controller launches no node before that is mended", "keep aws-node off the nodes of pod networks: "+patch)
	}
	if len(none) > 0 {
		p.found.add(Harm, ReasonVPCCNINotOnNodes, "aws-node does not select the nodes that it is to serve: of "+counted(len(none), "NodePool")+", "+cli.Some(none), "their pods would have no addresses", "let it select them: "+patch)
	}
	if !serves {
		return
	}
	container, ok := lo.Find(daemonSet.Spec.Template.Spec.Containers, func(c corev1.Container) bool { return c.Name == vpccni.Container })
	if !ok {
		return
	}
	comparison := vpccni.Compare(vpccni.EnvironmentOf(container), network, p.facts.ReservedENIs)
	fatal := comparison.Fatal()
	others := lo.Reject(comparison.Differences, func(d vpccni.Difference, _ int) bool { return d.Fatal })
	differences := func(d []vpccni.Difference) string {
		return strings.Join(lo.Map(d, func(d vpccni.Difference, _ int) string { return d.String() }), "; ")
	}
	if len(fatal) > 0 {
		p.found.add(Harm, ReasonVPCCNISettings, differences(fatal), "aws-node would not give pods addresses of this pod network", vpccni.Command(fatal))
	}
	if len(others) > 0 {
		p.found.add(Warning, ReasonVPCCNISettings, differences(others), "aws-node and the PodNetwork would mean different things", vpccni.Command(others))
	}
	if len(comparison.Unseen) > 0 {
		p.found.add(Info, ReasonVPCCNISettings, "these settings of aws-node are written elsewhere: "+strings.Join(comparison.Unseen, ", "), "ConfigMaps and Secrets are not read", "compare for yourself")
	}
}

func (p *planner) couldNotRead(what string) bool {
	return slices.ContainsFunc(p.facts.Unread, func(u Unread) bool { return strings.Contains(u.What, what) })
}

// leftAlone is what no pod network concerns, or this one does not.
func (p *planner) leftAlone() {
	var windows, unmanagedNodes int
	for _, n := range p.facts.Nodes {
		switch {
		case n.Fargate: // told of elsewhere
		case n.Windows:
			windows++
		case n.NodePool == "":
			unmanagedNodes++
		}
	}
	classes := lo.FilterMap(p.facts.NodeClasses, func(c ec2nodeclass.EC2NodeClass, _ int) (string, bool) {
		return c.Name, strings.HasPrefix(c.AMIFamily(), "Windows")
	})
	if windows > 0 || len(classes) > 0 {
		p.found.add(Info, ReasonWindows, fmt.Sprintf("Windows stays as it is: %s, EC2NodeClasses %v", counted(windows, "node"), classes), "Amazon EKS has no custom networking for Windows", "nothing is to be done")
	}
	others := lo.FilterMap(p.facts.NodePools, func(pool karpv1.NodePool, _ int) (string, bool) {
		ref := pool.Spec.Template.Spec.NodeClassRef
		_, on := p.nodeClassOf(&pool)
		return pool.Name, ref == nil || !on && !slices.Contains(classes, ref.Name)
	})
	if len(others) > 0 {
		p.found.add(Info, ReasonOtherNodePools, "not on this pod network: NodePools "+cli.Some(others), "spec.nodeClassSelector does not select their EC2NodeClasses", "nothing, if that is meant")
	}
	if unmanagedNodes > 0 {
		p.found.add(Info, ReasonUnmanagedNodes, fmt.Sprintf("%s %s not Karpenter's and stay as they are", counted(unmanagedNodes, "node"), lo.Ternary(unmanagedNodes == 1, "is", "are")),
			"Karpenter replaces only what it has launched; the figures here count them as though it had", "move their pods to nodes of a NodePool: drain them, and scale their group down")
	}
}
