// SPDX-License-Identifier: Apache-2.0

package diagnosis_test

import (
	"strings"
	"testing"
	"time"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/pendingpods"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
)

var now = time.Unix(1_800_000_000, 0)

func pod(change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func in(zone string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelTopologyZone: zone} }
}

func event(reason, message string, age time.Duration) corev1.Event {
	return corev1.Event{Reason: reason, Message: message, LastTimestamp: metav1.NewTime(now.Add(-age))}
}

func node(conditions ...corev1.NodeCondition) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{v1alpha1.LabelPodNetwork: "default"}},
		Status:     corev1.NodeStatus{Conditions: conditions, Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")}},
	}
}

func nodeCondition(kind string, state corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
	return corev1.NodeCondition{Type: corev1.NodeConditionType(kind), Status: state, Reason: reason, Message: message}
}

func agent(isReady corev1.ConditionStatus) *corev1.Pod {
	p := pod(on("n1"))
	p.Name = "dovetail-agent-1"
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: isReady}}
	if isReady != corev1.ConditionTrue {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "agent", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
	}
	return p
}

// restarted is an agent that has run for a time since its crash.
func restarted(since time.Duration) *corev1.Pod {
	p := agent(corev1.ConditionTrue)
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "agent", RestartCount: 1, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now.Add(-since))}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2, FinishedAt: metav1.NewTime(now.Add(-since - time.Second))}},
	}}
	return p
}

// unready is an agent that runs, and whose readiness probe fails.
func unready() *corev1.Pod {
	p := restarted(time.Hour)
	p.Status.Conditions[0].Status = corev1.ConditionFalse
	return p
}

func pool(limits, used corev1.ResourceList) karpv1.NodePool {
	p := karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}}
	p.Spec.Limits, p.Status.Resources = karpv1.Limits(limits), used
	p.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Name: "nodes"}
	p.Spec.Template.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{{
		Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"us-east-1a", "us-east-1b"},
	}}
	return p
}

// inZone pins a pool to a zone.
func inZone(p karpv1.NodePool, zone string) karpv1.NodePool {
	p.Spec.Template.Spec.Requirements[0].Values = []string{zone}
	return p
}

func cpu(quantity string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(quantity)}
}

func claim(change func(status.ConditionSet)) karpv1.NodeClaim {
	c := karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "pool-1", Labels: map[string]string{karpv1.NodePoolLabelKey: "pool"}}}
	c.Status.Capacity = cpu("4")
	change(c.StatusConditions())
	return c
}

func running(conditions status.ConditionSet) {
	conditions.SetTrue(karpv1.ConditionTypeLaunched)
	conditions.SetTrue(karpv1.ConditionTypeRegistered)
	conditions.SetTrue(karpv1.ConditionTypeInitialized)
}

func network(condition, reason, message string) v1alpha1.PodNetwork {
	n := v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	n.Status.Zones = []v1alpha1.ZoneStatus{{Zone: "us-east-1a"}}
	n.StatusConditions().SetFalse(condition, reason, message)
	return n
}

func TestWhy(t *testing.T) {
	apis.Register(scheme.Scheme)
	ready := nodeCondition("Ready", corev1.ConditionTrue, "KubeletReady", "")
	for name, test := range map[string]struct {
		situation diagnosis.Situation
		cause     diagnosis.Cause
		says      string
	}{
		"it runs": {
			diagnosis.Situation{Pod: pod(on("n1"), func(p *corev1.Pod) { p.Status.PodIP = "100.64.0.16" })}, diagnosis.CauseNone, "100.64.0.16",
		},
		"it has ended": {
			diagnosis.Situation{Pod: pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })}, diagnosis.CauseNone, "Succeeded",
		},
		"gates": {
			diagnosis.Situation{Pod: pod(func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "quota"}} })}, diagnosis.CauseGated, "quota",
		},
		"the pod subnet is full": {
			diagnosis.Situation{Pod: pod(), NodePools: []karpv1.NodePool{pool(nil, nil)}, Events: []corev1.Event{
				event("FailedScheduling", "no instance type has an offering", time.Second), event(pendingpods.ReasonNoPodAddresses, "subnet-1 has no free /28", time.Minute),
			}}, diagnosis.CauseNoPodAddresses, "no free /28",
		},
		"it was full an hour ago, and now a limit is reached": {
			diagnosis.Situation{Pod: pod(), NodePools: []karpv1.NodePool{pool(cpu("8"), cpu("8"))}, Events: []corev1.Event{
				event(pendingpods.ReasonNoPodAddresses, "subnet-1 has no free /28", time.Hour),
			}}, diagnosis.CauseNodePoolLimit, "spec.limits.cpu is 8 and 8 is used",
		},
		"the zone has no ENIConfig": {
			diagnosis.Situation{
				Pod: pod(in("us-east-1b")), NodePools: []karpv1.NodePool{pool(nil, nil)},
				PodNetworks: []v1alpha1.PodNetwork{network(v1alpha1.ConditionENIConfigsReady, "ENIConfigMissing", "zone us-east-1b has none")},
			}, diagnosis.CauseNoENIConfig, "zone us-east-1b has none",
		},
		"the zone of the only NodePool that fits has no ENIConfig": {
			diagnosis.Situation{
				Pod: pod(), NodePools: []karpv1.NodePool{inZone(pool(nil, nil), "us-east-1b")},
				Events:      []corev1.Event{event(pendingpods.ReasonNoPodAddresses, "no usable ENIConfig that the NodeClaim allows", time.Second)},
				PodNetworks: []v1alpha1.PodNetwork{network(v1alpha1.ConditionENIConfigsReady, "ENIConfigMissing", "zone us-east-1b has none")},
			}, diagnosis.CauseNoENIConfig, "zone us-east-1b has none",
		},
		"the pod network of other nodes has no ENIConfig": {
			diagnosis.Situation{
				Pod: pod(in("us-east-1b")), NodePools: []karpv1.NodePool{pool(cpu("8"), cpu("8"))},
				NodeClasses: []ec2nodeclass.EC2NodeClass{{ObjectMeta: metav1.ObjectMeta{Name: "nodes", Labels: map[string]string{"team": "red"}}}},
				PodNetworks: []v1alpha1.PodNetwork{func() v1alpha1.PodNetwork {
					n := network(v1alpha1.ConditionENIConfigsReady, "ENIConfigMissing", "zone us-east-1b has none")
					n.Spec.NodeClassSelector.MatchLabels = map[string]string{"team": "blue"}
					return n
				}()},
			}, diagnosis.CauseNodePoolLimit, "spec.limits.cpu is 8 and 8 is used",
		},
		"another zone has no ENIConfig": {
			diagnosis.Situation{
				Pod: pod(in("us-east-1a")), NodePools: []karpv1.NodePool{pool(cpu("8"), cpu("7500m"))},
				PodNetworks: []v1alpha1.PodNetwork{network(v1alpha1.ConditionENIConfigsReady, "ENIConfigMissing", "zone us-east-1b has none")},
			}, diagnosis.CauseNodePoolLimit, "the pod needs 1",
		},
		"aws-node is on the nodes too": {
			diagnosis.Situation{
				Pod: pod(), NodePools: []karpv1.NodePool{pool(nil, nil)},
				PodNetworks: []v1alpha1.PodNetwork{network(v1alpha1.ConditionAgentReady, "VPCCNIOnDovetailNodes", "patch aws-node")},
			}, diagnosis.CausePodNetworkNotReady, "patch aws-node",
		},
		"the limit leaves less than a node": {
			diagnosis.Situation{Pod: pod(), NodePools: []karpv1.NodePool{pool(cpu("10"), cpu("8"))}, NodeClaims: []karpv1.NodeClaim{claim(running)}},
			diagnosis.CauseNodePoolLimit, "its smallest node takes 4",
		},
		"the limit leaves less than any instance type, says Karpenter": {
			diagnosis.Situation{Pod: pod(), NodePools: []karpv1.NodePool{pool(cpu("1"), nil)}, Events: []corev1.Event{
				event("FailedScheduling", `Failed to schedule pod, incompatible with nodepool (NodePool=other); all available instance types exceed limits for nodepool (NodePool=pool)`, time.Minute),
				event("FailedScheduling", "0/3 nodes are available", time.Second),
			}}, diagnosis.CauseNodePoolLimit, "cpu is 1 and 0 is used",
		},
		"another pool's limit": {
			diagnosis.Situation{Pod: pod(), NodePools: []karpv1.NodePool{pool(cpu("1"), nil)}, Events: []corev1.Event{
				event("FailedScheduling", `no instance type has enough resources (NodePool=pool); all available instance types exceed limits for nodepool (NodePool=other)`, time.Minute),
			}}, diagnosis.CauseOther, "no instance type has enough",
		},
		"EC2 has had no capacity, says Karpenter": {
			diagnosis.Situation{Pod: pod(), NodePools: []karpv1.NodePool{pool(nil, nil)}, Events: []corev1.Event{
				event("FailedScheduling", `Failed to schedule pod, no instance type had enough resources or had a required offering, requirements=karpenter.sh/nodepool In [pool], topology.kubernetes.io/zone In [us-east-1a], resources={"pods":"2"}`, time.Minute),
				event("FailedScheduling", "0/3 nodes are available", time.Second),
			}}, diagnosis.CauseNoOffering, "none of its instance types has room for the pod and capacity in EC2",
		},
		"another pool's instance types": {
			diagnosis.Situation{Pod: pod(), NodePools: []karpv1.NodePool{pool(nil, nil)}, Events: []corev1.Event{
				event("FailedScheduling", `no instance type had enough resources or had a required offering, requirements=karpenter.sh/nodepool In [other]; incompatible requirements, karpenter.sh/nodepool In [pool]`, time.Minute),
			}}, diagnosis.CauseOther, "no instance type had enough",
		},
		"EC2 throttles launches": {
			diagnosis.Situation{
				Pod: pod(), NodePools: []karpv1.NodePool{pool(nil, nil)},
				NodeClaims: []karpv1.NodeClaim{claim(func(c status.ConditionSet) {
					c.SetUnknownWithReason(karpv1.ConditionTypeLaunched, "RequestLimitExceeded", "Request limit exceeded")
				})},
			}, diagnosis.CauseEC2Throttled, "Request limit exceeded",
		},
		"EC2 refuses launches": {
			diagnosis.Situation{
				Pod: pod(), NodePools: []karpv1.NodePool{pool(nil, nil)},
				NodeClaims: []karpv1.NodeClaim{claim(func(c status.ConditionSet) {
					c.SetUnknownWithReason(karpv1.ConditionTypeLaunched, "Unauthorized", "no identity-based policy allows it")
				})},
			}, diagnosis.CauseLaunchFails, "no identity-based policy",
		},
		"its node registers": {
			diagnosis.Situation{
				Pod: pod(), NodePools: []karpv1.NodePool{pool(nil, nil)},
				NodeClaims: []karpv1.NodeClaim{claim(func(c status.ConditionSet) {
					c.SetTrue(karpv1.ConditionTypeLaunched)
					c.SetUnknownWithReason(karpv1.ConditionTypeRegistered, "NodeNotFound", "Node not registered with cluster")
				})},
			}, diagnosis.CauseNodeStarting, "not Registered yet",
		},
		"max-pods of the only node it accepts": {
			diagnosis.Situation{
				Pod: pod(func(p *corev1.Pod) {
					p.Spec.NodeSelector = map[string]string{v1alpha1.LabelPodNetwork: "default", "disk": "ssd"}
				}),
				Nodes: []corev1.Node{func() corev1.Node { n := *node(ready); n.Labels["disk"] = "ssd"; return n }()}, PodsOn: map[string]int{"n1": 2},
			}, diagnosis.CauseMaxPodsReached, "n1 (2)",
		},
		"max-pods of the node that it names": {
			diagnosis.Situation{
				Pod:   pod(func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "n1"} }),
				Nodes: []corev1.Node{func() corev1.Node { n := *node(ready); n.Labels[corev1.LabelHostname] = "n1"; return n }()}, PodsOn: map[string]int{"n1": 2},
				NodePools: []karpv1.NodePool{pool(cpu("8"), cpu("8"))},
			}, diagnosis.CauseMaxPodsReached, "n1 (2)",
		},
		"no NodePool": {
			diagnosis.Situation{Pod: pod(in("us-east-1z")), NodePools: []karpv1.NodePool{pool(nil, nil)}}, diagnosis.CauseNoNodePool, "no NodePool",
		},
		"no agent on the node": {
			diagnosis.Situation{Pod: pod(on("n1")), Node: node(ready)}, diagnosis.CauseAgentNotReady, "no pod of the node agent",
		},
		"the agent crashes": {
			diagnosis.Situation{Pod: pod(on("n1")), Node: node(ready), Agent: agent(corev1.ConditionFalse)}, diagnosis.CauseAgentNotReady, "CrashLoopBackOff",
		},
		"the agent runs again, after a crash": {
			diagnosis.Situation{Pod: pod(on("n1")), Node: node(ready), Agent: restarted(10 * time.Second)}, diagnosis.CauseAgentNotReady, "ended with 2 11 s ago",
		},
		"the agent runs and is not ready": {
			diagnosis.Situation{Pod: pod(on("n1")), Node: node(ready), Agent: unready()}, diagnosis.CauseAgentNotReady, "has not served the node since its start",
		},
		"the agent runs and is not ready, and the node says why": {
			diagnosis.Situation{Pod: pod(on("n1")), Agent: unready(), Node: node(nodeCondition(v1alpha1.ConditionPodNetworkReady, corev1.ConditionFalse, "MissingIAMPermissions", "the node's IAM role lacks a right"))},
			diagnosis.CauseNoAddress, "lacks a right",
		},
		"the agent has crashed once, long ago": {
			diagnosis.Situation{Pod: pod(on("n1")), Node: node(ready), Agent: restarted(time.Hour)}, diagnosis.CauseOther, "phase Pending",
		},
		"the agent has no address, for EC2 throttles": {
			diagnosis.Situation{
				Pod: pod(on("n1")), Agent: agent(corev1.ConditionTrue),
				Node: node(ready, nodeCondition(v1alpha1.ConditionPodNetworkReady, corev1.ConditionFalse, "Throttled", "EC2 allows no more requests now")),
			}, diagnosis.CauseEC2Throttled, "EC2 allows no more",
		},
		"the agent has no address, for the subnet is full": {
			diagnosis.Situation{
				Pod: pod(on("n1")), Agent: agent(corev1.ConditionTrue),
				Node: node(ready, nodeCondition(v1alpha1.ConditionPodNetworkReady, corev1.ConditionFalse, "PodSubnetFull", "subnet-1 is full")),
			}, diagnosis.CauseNoAddress, "subnet-1 is full",
		},
		"the node is not Ready": {
			diagnosis.Situation{Pod: pod(on("n1")), Agent: agent(corev1.ConditionTrue), Node: node(nodeCondition("Ready", corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting"))},
			diagnosis.CauseNodeNotReady, "Kubelet stopped",
		},
		"the node is gone":      {diagnosis.Situation{Pod: pod(on("n1"))}, diagnosis.CauseNodeNotReady, "gone"},
		"an image is not there": {diagnosis.Situation{Pod: pod(on("n1")), Node: node(ready), Agent: agent(corev1.ConditionTrue)}, diagnosis.CauseOther, "phase Pending"},
	} {
		t.Run(name, func(t *testing.T) {
			test.situation.Now = now
			answer := diagnosis.Why(test.situation)
			require.Equal(t, test.cause, answer.Cause(), "%+v", answer.Findings)
			require.Contains(t, answer.Findings[0].Message, test.says)
			var text strings.Builder
			answer.Print(&text)
			require.Contains(t, text.String(), test.says)
		})
	}
}
