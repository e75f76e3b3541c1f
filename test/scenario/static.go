// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	karpenteraws "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// agentMetrics is the chart's default, on the node.
const agentMetrics = "http://127.0.0.1:61680/metrics"

// awsCalls begins the agent's metrics of calls to AWS: there is none before the first call.
const awsCalls = "dovetail_agent_aws_call_duration_seconds_count{"

// StaticNode is a node that was launched on a network of static allocation.
type StaticNode struct {
	Node
	// Events of its NodeClaim.
	Events []string
	// AWSCalls are the agent's metrics of calls to AWS.
	AWSCalls []string
}

// Static sets a network to static allocation and launches two nodes by a pod each: one that can have its pod ENI with the launch, and
// one whose node class asks for a public address. Their pods run, with an address of a pod ENI.
func (s *Sandbox) Static(ctx context.Context, network, instanceType string) (static, public StaticNode, err error) {
	if err := s.setAllocation(ctx, network, v1alpha1.AllocationStatic); err != nil {
		return static, public, err
	}
	defer cleanup(ctx, &err, func(ctx context.Context) error { return s.setAllocation(ctx, network, v1alpha1.AllocationDynamic) })
	example, err := s.exampleNodeClass(ctx)
	if err != nil {
		return static, public, err
	}
	nodeClass := &karpenteraws.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: "public"}, Spec: *example.Spec.DeepCopy()}
	nodeClass.Spec.AssociatePublicIPAddress = new(true)
	if err := s.Kube.Create(ctx, nodeClass); err != nil {
		return static, public, fmt.Errorf("creating EC2NodeClass %s: %w", nodeClass.Name, err)
	}
	var launches []launch
	defer cleanup(ctx, &err, func(ctx context.Context) error {
		return errors.Join(s.endLaunches(ctx, launches), client.IgnoreNotFound(s.Kube.Delete(ctx, nodeClass)))
	})
	var pods []*corev1.Pod
	for _, class := range []string{example.Name, nodeClass.Name} {
		one, err := s.launch(ctx, launchParams{
			Name: "static-" + class, NodeClass: class, Requirements: requirements{corev1.LabelInstanceTypeStable: {instanceType}},
		})
		launches = append(launches, one)
		if err != nil {
			return static, public, err
		}
		pods = append(pods, one.pod)
	}
	if pods, err = s.waitPods(ctx, pods); err != nil {
		return static, public, err
	}
	if static, err = s.staticNode(ctx, pods[0]); err != nil {
		return static, public, err
	}
	public, err = s.staticNode(ctx, pods[1])
	return static, public, err
}

func (s *Sandbox) setAllocation(ctx context.Context, network string, allocation v1alpha1.Allocation) error {
	object := &v1alpha1.PodNetwork{}
	if err := s.Kube.Get(ctx, client.ObjectKey{Name: network}, object); err != nil {
		return fmt.Errorf("reading PodNetwork %s: %w", network, err)
	}
	before := object.DeepCopy()
	object.Spec.Addressing.Allocation = allocation
	if err := s.Kube.Patch(ctx, object, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("setting the allocation of PodNetwork %s: %w", network, err)
	}
	return nil
}

// staticNode is what the node of a pod shows.
func (s *Sandbox) staticNode(ctx context.Context, pod *corev1.Pod) (found StaticNode, err error) {
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return found, err
	}
	at := slices.IndexFunc(nodes, func(node Node) bool { return node.Name == pod.Spec.NodeName })
	if at < 0 {
		return found, fmt.Errorf("node %s is none that Karpenter launched", pod.Spec.NodeName)
	}
	found.Node = nodes[at]
	addr, err := podAddress(pod)
	if err != nil {
		return found, err
	}
	if _, ok := found.podENI(addr); !ok {
		return found, fmt.Errorf("pod %s has %s, which is on no pod ENI of its node", pod.Name, addr)
	}
	claims := &karpenter.NodeClaimList{}
	if err := s.Kube.List(ctx, claims, client.MatchingLabels{probeLabel: pod.Name}); err != nil {
		return found, fmt.Errorf("listing NodeClaims: %w", err)
	}
	for _, claim := range claims.Items {
		events, err := s.events(ctx, "NodeClaim", claim.Name)
		if err != nil {
			return found, err
		}
		found.Events = append(found.Events, events...)
	}
	metrics, err := s.OnNode(ctx, found.InstanceID, s.netprobe("get", agentMetrics)...)
	if err != nil {
		return found, fmt.Errorf("the metrics of the agent on %s: %w", found.Name, err)
	}
	found.AWSCalls = slices.DeleteFunc(strings.Split(metrics, "\n"), func(line string) bool { return !strings.HasPrefix(line, awsCalls) })
	return found, nil
}
