// SPDX-License-Identifier: Apache-2.0

// Package diagnosis finds out why a pod has no node or no address. What it decides from is read once; the decision itself knows no
// cluster.
package diagnosis

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// Cause of a pod's trouble.
type Cause string

// Causes. Those that a component has stated keep its own reason in Finding.Reason.
const (
	// CauseNone: the pod runs and has an address, or has ended.
	CauseNone Cause = "None"
	// CauseGated: its scheduling gates are not removed.
	CauseGated Cause = "SchedulingGated"
	// CauseNoPodAddresses: no pod subnet that may serve it has room for a node.
	CauseNoPodAddresses Cause = "NoPodAddresses"
	// CausePodNetworkNotReady: the pod network launches nothing as it stands.
	CausePodNetworkNotReady Cause = "PodNetworkNotReady"
	// CauseNoENIConfig: a zone that the pod asks for has no usable ENIConfig.
	CauseNoENIConfig Cause = "NoENIConfig"
	// CauseNodePoolLimit: the NodePools that fit have reached spec.limits.
	CauseNodePoolLimit Cause = "NodePoolLimit"
	// CauseNodePoolNotReady: the NodePools that fit are not Ready.
	CauseNodePoolNotReady Cause = "NodePoolNotReady"
	// CauseNoNodePool: no NodePool makes a node that the pod accepts.
	CauseNoNodePool Cause = "NoNodePool"
	// CauseNoOffering: no instance type of the NodePools that fit has room for the pod and capacity in EC2, as far as Karpenter knows.
	CauseNoOffering Cause = "NoOffering"
	// CauseLaunchFails: a node was asked for, and EC2 or Karpenter refuses it.
	CauseLaunchFails Cause = "LaunchFails"
	// CauseEC2Throttled: EC2 takes no more requests now, and so there is no node, or no address on it.
	CauseEC2Throttled Cause = "EC2Throttled"
	// CauseNodeStarting: its node is on the way.
	CauseNodeStarting Cause = "NodeStarting"
	// CauseMaxPodsReached: the nodes that the pod accepts run as many pods as they may.
	CauseMaxPodsReached Cause = "MaxPodsReached"
	// CauseAgentNotReady: the node agent on its node does not run.
	CauseAgentNotReady Cause = "AgentNotReady"
	// CauseNoAddress: the node agent has no address for it, and says why.
	CauseNoAddress Cause = "NoAddress"
	// CauseNodeNotReady: its node is not Ready, for another reason.
	CauseNodeNotReady Cause = "NodeNotReady"
	// CauseOther: it has nothing to do with nodes or addresses, as far as anybody says.
	CauseOther Cause = "Other"
)

// Finding is one thing that stands in the pod's way.
type Finding struct {
	Cause Cause `json:"cause"`
	// Object that says so, as kind/name.
	Object string `json:"object,omitempty"`
	// Reason as the object states it.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
	// Fix is what a person can do.
	Fix string `json:"fix,omitempty"`
}

// Answer to: why does this pod not run?
type Answer struct {
	Pod  string `json:"pod"`
	Node string `json:"node,omitempty"`
	// Findings, what bears most on the pod first. The first one is the answer.
	Findings []Finding `json:"findings"`
}

// Cause that bears most on the pod.
func (a Answer) Cause() Cause {
	if len(a.Findings) == 0 {
		return CauseOther
	}
	return a.Findings[0].Cause
}

func condition(node *corev1.Node, conditionType string) *corev1.NodeCondition {
	i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return string(c.Type) == conditionType })
	if i < 0 {
		return nil
	}
	return &node.Status.Conditions[i]
}

// latest event with one of the reasons, nil for none.
func latest(events []corev1.Event, reasons ...string) *corev1.Event {
	var found *corev1.Event
	for i := range events {
		if e := &events[i]; slices.Contains(reasons, e.Reason) && (found == nil || !cli.EventTime(e).Before(cli.EventTime(found))) {
			found = e
		}
	}
	return found
}
