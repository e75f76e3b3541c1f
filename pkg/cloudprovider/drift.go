// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// DriftMaxPods is the reason of a node that reports room for another number of pods than it was launched for, so that Karpenter counts wrong.
const DriftMaxPods cloudprovider.DriftReason = "MaxPodsDrift"

// IsDrifted asks upstream first, then compares what the node was launched with to what its pod network would launch now, and
// last what was meant for it with what it reports.
func (c *CloudProvider) IsDrifted(ctx context.Context, claim *karpv1.NodeClaim) (cloudprovider.DriftReason, error) {
	reason, err := c.CloudProvider.IsDrifted(ctx, claim)
	if reason != "" || err != nil {
		return reason, err
	}
	_, network, err := c.networkOf(ctx, claim.Spec.NodeClassRef)
	if err != nil {
		return "", client.IgnoreNotFound(err)
	}
	if reason := podnetwork.Outdated(network, claim); reason != "" {
		settled, err := c.settled(ctx, network, claim)
		if err != nil || !settled {
			return "", err
		}
		return reason, nil
	}
	if network == nil {
		return "", nil
	}
	return c.maxPodsDrift(ctx, claim)
}

// settled tells whether the network that an outdated node is to move to, or the one that it is to leave, is as its author wants it.
func (c *CloudProvider) settled(ctx context.Context, network *v1alpha1.PodNetwork, claim *karpv1.NodeClaim) (bool, error) {
	if network == nil { // its own network no longer selects the node class, or is gone
		network = &v1alpha1.PodNetwork{}
		err := c.Client.Get(ctx, types.NamespacedName{Name: claim.Labels[v1alpha1.LabelPodNetwork]}, network)
		switch {
		case apierrors.IsNotFound(err), err == nil && !network.DeletionTimestamp.IsZero():
			return true, nil
		case err != nil:
			return false, fmt.Errorf("getting the PodNetwork of NodeClaim %s, %w", claim.Name, err)
		}
	}
	return podnetwork.Settled(network), nil
}

// maxPodsDrift replaces a node that reports another max-pods than it was launched with, if that can help. Where an AMI or
// user data override max-pods every new node is wrong too, and replacing them would never end. So one node of a kind is
// replaced first, and the others only when a node of that kind has come up right since.
func (c *CloudProvider) maxPodsDrift(ctx context.Context, claim *karpv1.NodeClaim) (cloudprovider.DriftReason, error) {
	launched, err := strconv.ParseInt(claim.Labels[v1alpha1.LabelMaxPods], 10, 64)
	if err != nil || !claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() {
		return "", nil //nolint:nilerr // a node from before the label, or a Flexible launch
	}
	node := &corev1.Node{}
	if err := c.Client.Get(ctx, types.NamespacedName{Name: claim.Status.NodeName}, node); err != nil {
		return "", client.IgnoreNotFound(fmt.Errorf("getting Node %s, %w", claim.Status.NodeName, err))
	}
	reported := node.Status.Capacity.Pods().Value()
	if !c.canaries.judge(claim, reported == launched) {
		return "", nil
	}
	return DriftMaxPods, nil
}

// canaries are the nodes that were first of their kind to be replaced for a wrong max-pods.
type canaries struct {
	mu     sync.Mutex
	chosen map[kind]*karpv1.NodeClaim
}

// kind of nodes that are launched alike.
type kind struct {
	nodePool, instanceType, nodeClass, network, prefixes string
}

func kindOf(claim *karpv1.NodeClaim) kind {
	return kind{
		nodePool: claim.Labels[karpv1.NodePoolLabelKey], instanceType: claim.Labels[corev1.LabelInstanceTypeStable],
		nodeClass: claim.Annotations[ec2nodeclass.AnnotationEC2NodeClassHash], network: claim.Annotations[v1alpha1.AnnotationPodNetworkHash],
		prefixes: claim.Labels[v1alpha1.LabelPrefixDelegation],
	}
}

// judge tells whether a node is to be replaced, from whether its max-pods is right.
func (c *canaries) judge(claim *karpv1.NodeClaim, right bool) (replace bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	canary := c.chosen[kindOf(claim)]
	if right {
		if canary != nil && canary.CreationTimestamp.Before(&claim.CreationTimestamp) {
			delete(c.chosen, kindOf(claim)) // replacing helped
		}
		return false
	}
	if canary == nil {
		if c.chosen == nil {
			c.chosen = map[kind]*karpv1.NodeClaim{}
		}
		c.chosen[kindOf(claim)] = claim.DeepCopy()
		return true
	}
	return canary.UID == claim.UID
}
