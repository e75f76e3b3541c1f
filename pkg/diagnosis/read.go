// SPDX-License-Identifier: Apache-2.0

package diagnosis

import (
	"context"
	"fmt"
	"time"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// Read the situation of a pod. What the cluster has no kind for is left empty.
func Read(ctx context.Context, c client.Client, namespace, name string) (Situation, error) {
	s := Situation{Now: time.Now(), Pod: &corev1.Pod{}, PodsOn: map[string]int{}}
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, s.Pod); err != nil {
		if apierrors.IsNotFound(err) {
			return s, fmt.Errorf("there is no pod %s in namespace %s: -n names another namespace", name, namespace)
		}
		return s, cli.Explain(err)
	}
	events := &corev1.EventList{}
	of := fields.SelectorFromSet(fields.Set{"involvedObject.uid": string(s.Pod.UID)})
	if err := c.List(ctx, events, client.InNamespace(namespace), client.MatchingFieldsSelector{Selector: of}); err != nil {
		return s, cli.Explain(err)
	}
	s.Events = events.Items
	networks := &v1alpha1.PodNetworkList{}
	if _, err := cli.List(ctx, c, networks); err != nil {
		return s, err
	}
	s.PodNetworks = networks.Items
	if s.Pod.Spec.NodeName != "" {
		return s, s.readNode(ctx, c)
	}
	return s, s.readCluster(ctx, c)
}

func (s *Situation) readNode(ctx context.Context, c client.Client) error {
	node := &corev1.Node{}
	switch err := c.Get(ctx, client.ObjectKey{Name: s.Pod.Spec.NodeName}, node); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return cli.Explain(err)
	}
	s.Node = node
	agent, err := AgentPod(ctx, c, node)
	s.Agent = agent
	return err
}

func (s *Situation) readCluster(ctx context.Context, c client.Client) error {
	nodes, pods, pools, claims := &corev1.NodeList{}, &corev1.PodList{}, &karpv1.NodePoolList{}, &karpv1.NodeClaimList{}
	nodeClasses := &ec2nodeclass.EC2NodeClassList{}
	bound := fields.AndSelectors(
		fields.OneTermNotEqualSelector("spec.nodeName", ""),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
	)
	for list, opts := range map[client.ObjectList][]client.ListOption{
		nodes: nil, pools: nil, claims: nil, nodeClasses: nil, pods: {client.MatchingFieldsSelector{Selector: bound}},
	} {
		if _, err := cli.List(ctx, c, list, opts...); err != nil {
			return err
		}
	}
	s.Nodes, s.NodePools, s.NodeClaims, s.NodeClasses = nodes.Items, pools.Items, claims.Items, nodeClasses.Items
	for _, pod := range pods.Items {
		s.PodsOn[pod.Spec.NodeName]++
	}
	return nil
}
