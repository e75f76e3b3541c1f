// SPDX-License-Identifier: Apache-2.0

package diagnosis

import (
	"fmt"
	"slices"
	"strings"
	"time"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/awslabs/operatorpkg/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/controllers/pendingpods"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Situation of a pod: what there is to know about it, read at one time.
type Situation struct {
	Now time.Time
	Pod *corev1.Pod
	// Events of the pod.
	Events []corev1.Event
	// Node that the pod is bound to, and the pod there that gives addresses: of the node agent, or aws-node. nil for none.
	Node  *corev1.Node
	Agent *corev1.Pod
	// Nodes, and how many pods each runs.
	Nodes  []corev1.Node
	PodsOn map[string]int

	NodePools   []karpv1.NodePool
	NodeClasses []ec2nodeclass.EC2NodeClass
	NodeClaims  []karpv1.NodeClaim
	PodNetworks []v1alpha1.PodNetwork
}

// throttledFix is all that a person can do.
const throttledFix = "it is tried again by itself, with growing pauses; EC2 counts the requests of all programs of the account and Region"

// Why the pod does not run.
func Why(s Situation) Answer {
	answer := Answer{Pod: s.Pod.Namespace + "/" + s.Pod.Name, Node: s.Pod.Spec.NodeName}
	switch {
	case s.Pod.Status.Phase == corev1.PodSucceeded || s.Pod.Status.Phase == corev1.PodFailed:
		answer.add(Finding{Cause: CauseNone, Message: fmt.Sprintf("it has ended: %s", s.Pod.Status.Phase)})
	case s.Pod.Status.PodIP != "":
		answer.add(Finding{Cause: CauseNone, Message: "it has the address " + s.Pod.Status.PodIP + " on node " + s.Pod.Spec.NodeName})
	case s.Pod.Spec.NodeName != "":
		answer.add(s.bound()...)
	default:
		answer.add(s.unbound()...)
	}
	if len(answer.Findings) == 0 {
		answer.add(Finding{Cause: CauseOther, Message: "nothing in the cluster says why"})
	}
	return answer
}

func (a *Answer) add(findings ...Finding) { a.Findings = append(a.Findings, findings...) }

// bound pods have a node and no address yet.
func (s Situation) bound() (found []Finding) {
	if s.Node == nil {
		return []Finding{{Cause: CauseNodeNotReady, Object: "Node/" + s.Pod.Spec.NodeName, Message: "its node is gone; the pod will be deleted, and its owner makes another"}}
	}
	node := "Node/" + s.Node.Name
	network := condition(s.Node, v1alpha1.ConditionPodNetworkReady)
	_, onNetwork := s.Node.Labels[v1alpha1.LabelPodNetwork]
	switch {
	case onNetwork && s.Agent == nil:
		found = append(found, Finding{Cause: CauseAgentNotReady, Object: node, Message: "no pod of the node agent is on this node", Fix: "kubectl get daemonset -A: does dovetail-agent want a pod on this node, and what keeps it away?"})
	case onNetwork:
		trouble, logs := crashed(s.Agent, s.Now), "kubectl logs --previous -n "
		switch {
		case ready(s.Agent):
		case !runs(s.Agent):
			trouble = containerTrouble(s.Agent)
		case network == nil || network.Status != corev1.ConditionFalse: // which says more
			trouble, logs = "it runs, and has not served the node since its start or hangs", "kubectl logs -n "
		}
		if trouble != "" {
			found = append(found, Finding{Cause: CauseAgentNotReady, Object: "Pod/" + s.Agent.Namespace + "/" + s.Agent.Name, Message: "the node agent is not ready: " + trouble, Fix: logs + s.Agent.Namespace + " " + s.Agent.Name})
		}
	}
	if network != nil && network.Status == corev1.ConditionFalse {
		f := Finding{Cause: CauseNoAddress, Object: node, Reason: network.Reason, Message: network.Message, Fix: "kubectl dovetail node status " + s.Node.Name + " shows its ENIs, prefixes and last errors"}
		if network.Reason == string(eni.Throttled) {
			f.Cause, f.Fix = CauseEC2Throttled, throttledFix
		}
		found = append(found, f)
	}
	if r := condition(s.Node, string(corev1.NodeReady)); r != nil && r.Status != corev1.ConditionTrue {
		found = append(found, Finding{Cause: CauseNodeNotReady, Object: node, Reason: r.Reason, Message: r.Message})
	}
	if e := latest(s.Events, "FailedCreatePodSandBox"); e != nil {
		found = append(found, Finding{Cause: CauseNoAddress, Object: node, Reason: e.Reason, Message: e.Message})
	}
	if len(found) == 0 {
		found = append(found, Finding{Cause: CauseOther, Object: node, Message: "its node is Ready and gives addresses; the kubelet has not started it: " + containerTrouble(s.Pod)})
	}
	return found
}

// unbound pods have no node.
func (s Situation) unbound() (found []Finding) {
	if len(s.Pod.Spec.SchedulingGates) > 0 {
		gates := make([]string, 0, len(s.Pod.Spec.SchedulingGates))
		for _, g := range s.Pod.Spec.SchedulingGates {
			gates = append(gates, g.Name)
		}
		return []Finding{{Cause: CauseGated, Message: "spec.schedulingGates hold it: " + strings.Join(gates, ", ")}}
	}
	fitting := s.fitting()
	found = append(found, s.networks(fitting)...) // before what follows from it
	if e := latest(s.Events, pendingpods.ReasonNoPodAddresses); e != nil && s.Now.Sub(cli.EventTime(e)) < cli.EventFresh {
		found = append(found, Finding{Cause: CauseNoPodAddresses, Reason: e.Reason, Message: e.Message, Fix: "kubectl dovetail capacity --map shows the pod subnets; more room: spec.provision.cidrs, another ENIConfig, a lower spec.maxPods.limit"})
	}
	found = append(found, s.launches(fitting)...)
	found = append(found, pools(fitting, s)...)
	if f, full := s.maxPods(); full {
		found = append(found, f)
	}
	if len(fitting) == 0 {
		found = append(found, Finding{Cause: CauseNoNodePool, Message: "no NodePool makes a node that satisfies the pod's node selector, affinity and tolerations", Fix: "compare them with the NodePools' requirements and taints"})
	}
	if e := latest(s.Events, failedScheduling); e != nil {
		found = append(found, Finding{Cause: CauseOther, Reason: e.Reason, Message: strings.Join(strings.Fields(e.Message), " ")})
	}
	return found
}

// fitting NodePools make nodes that the pod accepts. None makes the node that a pod asks for by name.
func (s Situation) fitting() (fitting []karpv1.NodePool) {
	if scheduling.NewStrictPodRequirements(s.Pod).Get(corev1.LabelHostname).Operator() == corev1.NodeSelectorOpIn {
		return nil
	}
	for _, pool := range s.NodePools {
		if _, fits := launch.ClaimFor(&pool, s.Pod); fits {
			fitting = append(fitting, pool)
		}
	}
	return fitting
}

// networks that launch nothing as they stand, or not in the zones that the pod and the NodePools which fit it ask for.
func (s Situation) networks(fitting []karpv1.NodePool) (found []Finding) {
	for i := range s.PodNetworks {
		network := &s.PodNetworks[i]
		pools := slices.DeleteFunc(slices.Clone(fitting), func(pool karpv1.NodePool) bool { return !s.serves(network, &pool) })
		if len(pools) == 0 {
			continue
		}
		object := "PodNetwork/" + network.Name
		served := slices.ContainsFunc(pools, func(pool karpv1.NodePool) bool {
			claim, _ := launch.ClaimFor(&pool, s.Pod) // it fits
			zones := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...).Get(corev1.LabelTopologyZone)
			return slices.ContainsFunc(network.Status.Zones, func(z v1alpha1.ZoneStatus) bool { return zones.Has(z.Zone) })
		})
		for _, c := range network.GetConditions() {
			if !c.IsFalse() || c.Type == status.ConditionReady {
				continue
			}
			f := Finding{Object: object, Reason: c.Reason, Message: c.Type + " is False: " + c.Message}
			switch c.Type {
			case v1alpha1.ConditionAgentReady:
				f.Cause = CausePodNetworkNotReady
			case v1alpha1.ConditionENIConfigsReady, v1alpha1.ConditionSubnetsReady:
				if served {
					continue // another zone's trouble
				}
				f.Cause, f.Fix = CauseNoENIConfig, "make or mend the zone's ENIConfig; with spec.provision the controller makes it"
			default:
				continue
			}
			found = append(found, f)
		}
	}
	return found
}

// serves tells whether the nodes of a pool are on the network. Where the pool's node class is not there, any network may be meant.
func (s Situation) serves(network *v1alpha1.PodNetwork, pool *karpv1.NodePool) bool {
	reference := pool.Spec.Template.Spec.NodeClassRef
	for i := range s.NodeClasses {
		if reference != nil && s.NodeClasses[i].Name == reference.Name {
			serving := podnetwork.Serving(s.PodNetworks, &s.NodeClasses[i])
			return len(serving) > 0 && serving[0].Name == network.Name
		}
	}
	return true
}

// launches that were begun for pods like this one.
func (s Situation) launches(fitting []karpv1.NodePool) (found []Finding) {
	for i := range s.NodeClaims {
		claim := &s.NodeClaims[i]
		ofFitting := slices.ContainsFunc(fitting, func(p karpv1.NodePool) bool { return p.Name == claim.Labels[karpv1.NodePoolLabelKey] })
		requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
		requirements.Add(scheduling.NewLabelRequirements(claim.Labels).Values()...)
		if !ofFitting || !claim.DeletionTimestamp.IsZero() || claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() ||
			requirements.Compatible(scheduling.NewPodRequirements(s.Pod), scheduling.AllowUndefinedWellKnownLabels) != nil {
			continue
		}
		object := "NodeClaim/" + claim.Name
		for _, step := range []string{karpv1.ConditionTypeLaunched, karpv1.ConditionTypeRegistered, karpv1.ConditionTypeInitialized} {
			c := claim.StatusConditions().Get(step)
			if c.IsTrue() {
				continue
			}
			cause, fix := CauseNodeStarting, ""
			if step == karpv1.ConditionTypeLaunched && c != nil && c.Message != "" && c.Reason != "AwaitingReconciliation" {
				cause = CauseLaunchFails
			}
			if c != nil && c.Reason == requestLimitExceeded {
				cause, fix = CauseEC2Throttled, throttledFix
			}
			f := Finding{Cause: cause, Object: object, Message: "a node is on the way; it is not " + step + " yet", Fix: fix}
			if c != nil {
				f.Reason = c.Reason
				if c.Message != "" {
					f.Message += ": " + c.Message
				}
			}
			found = append(found, f)
			break
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return strings.Compare(string(a.Cause), string(b.Cause)) }) // EC2Throttled, LaunchFails, NodeStarting
	return found[:min(len(found), 3)]
}

// pools says what keeps NodePools from a further node.
func pools(fitting []karpv1.NodePool, s Situation) (found []Finding) {
	for i := range fitting {
		pool := &fitting[i]
		object := "NodePool/" + pool.Name
		if c := pool.StatusConditions().Get(status.ConditionReady); c.IsFalse() {
			found = append(found, Finding{Cause: CauseNodePoolNotReady, Object: object, Reason: c.Reason, Message: c.Message})
		}
		text := s.limit(pool)
		if text == "" && len(pool.Spec.Limits) > 0 && slices.ContainsFunc(s.Events, func(e corev1.Event) bool {
			return e.Reason == failedScheduling && s.Now.Sub(cli.EventTime(&e)) < cli.EventFresh && exhausted(e.Message, pool.Name)
		}) {
			text = "spec.limits have no room for any instance type that it may launch: " + limits(pool)
		}
		if text != "" {
			found = append(found, Finding{Cause: CauseNodePoolLimit, Object: object, Message: text, Fix: "raise spec.limits, or let Karpenter consolidate"})
		}
		if slices.ContainsFunc(s.Events, func(e corev1.Event) bool {
			return e.Reason == failedScheduling && s.Now.Sub(cli.EventTime(&e)) < cli.EventFresh && noOffering(e.Message, pool.Name)
		}) {
			found = append(found, Finding{
				Cause: CauseNoOffering, Object: object, Reason: failedScheduling,
				Message: "none of its instance types has room for the pod and capacity in EC2, where the pod may run",
				Fix:     "what EC2 refused for want of capacity is tried again after three minutes; more instance types, zones or capacity types in its requirements help; when it lasts, compare the pod's requests with its instance types",
			})
		}
	}
	return found
}

// limit that has no room for the pod, or for a node like the smallest that the pool has.
func (s Situation) limit(pool *karpv1.NodePool) string {
	requests := resources.RequestsForPods(s.Pod)
	requests[resources.Node] = resource.MustParse("1")
	for name, limit := range pool.Spec.Limits {
		used := pool.Status.Resources[name]
		left := limit.DeepCopy()
		left.Sub(used)
		need, what := requests[name], "the pod needs"
		if smallest := s.smallest(pool.Name, name); smallest != nil && smallest.Cmp(need) > 0 {
			need, what = *smallest, "its smallest node takes"
		}
		if left.Cmp(need) < 0 || left.Sign() <= 0 {
			return fmt.Sprintf("spec.limits.%s is %s and %s is used: %s %s", name, limit.String(), used.String(), what, need.String())
		}
	}
	return ""
}

// smallest capacity among the nodes of a pool, nil when it has none.
func (s Situation) smallest(pool string, name corev1.ResourceName) (least *resource.Quantity) {
	for _, claim := range s.NodeClaims {
		capacity, known := claim.Status.Capacity[name]
		if known && claim.Labels[karpv1.NodePoolLabelKey] == pool && (least == nil || capacity.Cmp(*least) < 0) {
			least = &capacity
		}
	}
	return least
}

// maxPods tells whether every node that accepts the pod runs as many pods as it may. With few such nodes this is why a pod that is
// bound to them, by name or by label, waits.
func (s Situation) maxPods() (Finding, bool) {
	affinity := nodeaffinity.GetRequiredNodeAffinity(s.Pod)
	var full []string
	for i := range s.Nodes {
		node := &s.Nodes[i]
		matches, err := affinity.Match(node)
		if err != nil || !matches || node.Spec.Unschedulable || scheduling.Taints(node.Spec.Taints).ToleratesPod(s.Pod) != nil {
			continue
		}
		if allocatable := node.Status.Allocatable.Pods().Value(); int64(s.PodsOn[node.Name]) < allocatable {
			return Finding{}, false
		}
		full = append(full, fmt.Sprintf("%s (%d)", node.Name, s.PodsOn[node.Name]))
	}
	if len(full) == 0 {
		return Finding{}, false
	}
	return Finding{
		Cause: CauseMaxPodsReached, Message: "each node that the pod accepts runs as many pods as it may: " + cli.Some(full),
		Fix: "dovetail max-pods explains the number; a further node takes it when a NodePool fits the pod",
	}, true
}

func ready(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// runs: whatever its readiness probe says.
func runs(pod *corev1.Pod) bool {
	return len(pod.Status.ContainerStatuses) > 0 && !slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.State.Running == nil })
}

// settled is how long a container has to run until nobody expects the crash before to come again.
const settled = 30 * time.Second

// crashed says which container of a pod runs again only since now: between two crashes even a pod that is of no use is Ready.
func crashed(pod *corev1.Pod, now time.Time) string {
	for _, c := range pod.Status.ContainerStatuses {
		before, running := c.LastTerminationState.Terminated, c.State.Running
		if before != nil && before.ExitCode != 0 && running != nil && now.Sub(running.StartedAt.Time) < settled {
			return strings.TrimSpace(fmt.Sprintf("container %s ended with %d %d s ago and was started again: %s %s", c.Name, before.ExitCode, int(now.Sub(before.FinishedAt.Time).Seconds()), before.Reason, before.Message))
		}
	}
	return ""
}

// containerTrouble is what the pod's containers wait for.
func containerTrouble(pod *corev1.Pod) string {
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			return strings.TrimSpace(fmt.Sprintf("container %s: %s %s", c.Name, c.State.Waiting.Reason, c.State.Waiting.Message))
		case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
			return strings.TrimSpace(fmt.Sprintf("container %s ended with %d: %s %s", c.Name, c.State.Terminated.ExitCode, c.State.Terminated.Reason, c.State.Terminated.Message))
		}
	}
	return "phase " + string(pod.Status.Phase)
}
