// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/vpccni"
)

// Reasons of the conditions AgentReady and VPCCNIConfigured, and of the events that go with them.
const (
	ReasonVPCCNIMissing         = "VPCCNIMissing"
	ReasonVPCCNINotOnNodes      = "VPCCNINotOnNodes"
	ReasonVPCCNIOnDovetailNodes = "VPCCNIOnDovetailNodes"
	ReasonVPCCNISettingsDiffer  = "VPCCNISettingsDiffer"
	ReasonVPCCNISettingsHidden  = "VPCCNISettingsHidden"
)

// vpcCNI matches aws-node's DaemonSet when its spec changes. It is in the cache anyway, with all others: Karpenter counts what
// DaemonSets take of a node.
var vpcCNI = predicate.And(
	predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetNamespace() == vpccni.Namespace && o.GetName() == vpccni.DaemonSet
	}),
	predicate.GenerationChangedPredicate{},
)

// agentFindings are about who serves the nodes of a network.
type agentFindings struct {
	// problems leave new nodes without addresses of the network, or put two programs on one node.
	problems []podnetwork.Problem
	// settings of aws-node, nil when it is not the one to serve.
	settings *vpccni.Comparison
}

func (f *agentFindings) problem(reason, format string, args ...any) {
	f.problems = append(f.problems, podnetwork.Problem{Condition: v1alpha1.ConditionAgentReady, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// agent looks at aws-node's DaemonSet: it must be on the nodes that it is to serve, on no others of the network, and say what the
// network says.
func (c *Controller) agent(ctx context.Context, network *v1alpha1.PodNetwork, nodeClasses []ec2nodeclass.EC2NodeClass) (agentFindings, error) {
	var found agentFindings
	serves := podnetwork.AgentOf(network) == v1alpha1.AgentVPCCNI
	daemonSet := &appsv1.DaemonSet{}
	err := c.Client.Get(ctx, client.ObjectKey{Namespace: vpccni.Namespace, Name: vpccni.DaemonSet}, daemonSet)
	if client.IgnoreNotFound(err) != nil {
		return found, fmt.Errorf("getting DaemonSet %s, %w", vpccni.DaemonSet, err)
	}
	installed := err == nil
	container, exists := lo.Find(daemonSet.Spec.Template.Spec.Containers, func(c corev1.Container) bool { return c.Name == vpccni.Container })
	switch {
	case serves && !installed:
		found.problem(ReasonVPCCNIMissing, "spec.agent is VPCCNI, and there is no DaemonSet %s in %s: install the Amazon VPC CNI, or set spec.agent to Dovetail",
			vpccni.DaemonSet, vpccni.Namespace)
		return found, nil
	case serves && !exists:
		found.problem(ReasonVPCCNIMissing, "DaemonSet %s in %s has no container %s: it is not the Amazon VPC CNI", vpccni.DaemonSet, vpccni.Namespace, vpccni.Container)
		return found, nil
	case !installed:
		return found, nil
	}
	if err := c.placement(ctx, &found, network, nodeClasses, daemonSet); err != nil {
		return found, err
	}
	if !serves {
		return found, nil
	}
	comparison := vpccni.Compare(vpccni.EnvironmentOf(container), network, c.ReservedENIs)
	found.settings = &comparison
	if fatal := comparison.Fatal(); len(fatal) > 0 {
		found.problem(ReasonVPCCNISettingsDiffer, "aws-node would not give pods addresses of this pod network: %s", vpccni.Describe(fatal))
	}
	return found, nil
}

// placement of aws-node on the nodes that are and on those that Karpenter would launch.
func (c *Controller) placement(ctx context.Context, found *agentFindings, network *v1alpha1.PodNetwork, nodeClasses []ec2nodeclass.EC2NodeClass, daemonSet *appsv1.DaemonSet) error {
	var both, none []string
	serves := podnetwork.AgentOf(network) == v1alpha1.AgentVPCCNI
	pools, err := c.nodePools(ctx, nodeClasses)
	if err != nil {
		return err
	}
	for _, pool := range pools {
		selected := vpccni.SelectsLaunched(daemonSet, network, &pool)
		if selected && !serves {
			both = append(both, "nodes of NodePool "+pool.Name)
		} else if !selected && serves {
			none = append(none, "nodes of NodePool "+pool.Name)
		}
	}
	if len(pools) == 0 && !serves && vpccni.SelectsLaunched(daemonSet, network, nil) {
		both = append(both, "new nodes")
	}
	nodes := &corev1.NodeList{}
	if err := c.Client.List(ctx, nodes, client.MatchingLabels{v1alpha1.LabelPodNetwork: network.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing Nodes, %w", err)
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		if podnetwork.AgentOn(node) != v1alpha1.AgentVPCCNI && vpccni.Selects(daemonSet, scheduling.NewLabelRequirements(node.Labels), node.Spec.Taints) {
			both = append(both, node.Name)
		}
	}
	if len(both)+len(none) == 0 {
		return nil
	}
	slices.Sort(both)
	patch, err := vpccni.PatchCommand(daemonSet)
	if err != nil {
		return err
	}
	if len(both) > 0 {
		found.problem(ReasonVPCCNIOnDovetailNodes, "aws-node selects nodes that Dovetail's agent serves (%s): two programs would manage the ENIs of one node; "+
			"keep aws-node off them: %s", some(both), patch)
	}
	if len(none) > 0 {
		found.problem(ReasonVPCCNINotOnNodes, "aws-node does not select nodes that it is to serve (%s): their pods would have no addresses; "+
			"if no nodeSelector of it keeps it away: %s", some(none), patch)
	}
	return nil
}

// some of many names: a message must not change with each node that comes.
func some(names []string) string {
	const shown = 3
	return strings.Join(lo.Slice(names, 0, shown), ", ") + lo.Ternary(len(names) > shown, " and more", "")
}

// nodePools that launch with the node classes, by name.
func (c *Controller) nodePools(ctx context.Context, nodeClasses []ec2nodeclass.EC2NodeClass) ([]karpv1.NodePool, error) {
	pools := &karpv1.NodePoolList{}
	if err := c.Client.List(ctx, pools); err != nil {
		return nil, fmt.Errorf("listing NodePools, %w", err)
	}
	slices.SortFunc(pools.Items, func(a, b karpv1.NodePool) int { return cmp.Compare(a.Name, b.Name) })
	return slices.DeleteFunc(pools.Items, func(pool karpv1.NodePool) bool {
		ref := pool.Spec.Template.Spec.NodeClassRef
		return ref == nil || !slices.ContainsFunc(nodeClasses, func(n ec2nodeclass.EC2NodeClass) bool { return n.Name == ref.Name })
	}), nil
}

// setConfigured says how aws-node's environment differs. It does not bear on Ready: what must, is among the problems too. A condition
// of its own shows also what only costs time, addresses or a source address.
func setConfigured(conditions status.ConditionSet, found agentFindings) error {
	const condition = v1alpha1.ConditionVPCCNIConfigured
	settings := found.settings
	if settings == nil {
		return conditions.Clear(condition)
	}
	hidden := lo.Ternary(len(settings.Unseen) == 0, "", "the controller cannot see "+strings.Join(settings.Unseen, ", ")+": compare for yourself")
	switch {
	case len(settings.Differences) > 0:
		conditions.SetFalse(condition, ReasonVPCCNISettingsDiffer, strings.Join(lo.Compact([]string{vpccni.Describe(settings.Differences), hidden}), "; "))
	case hidden != "":
		conditions.SetUnknownWithReason(condition, ReasonVPCCNISettingsHidden, hidden)
	default:
		conditions.SetTrue(condition)
	}
	return nil
}
