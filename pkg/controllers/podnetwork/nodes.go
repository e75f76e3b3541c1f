// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"context"
	"fmt"
	"strconv"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// ReasonMaxPodsMismatch is the event on a node that reports another max-pods than it was launched with.
const ReasonMaxPodsMismatch = "MaxPodsMismatch"

// claim of a node that is on the network or is to be.
type claim struct {
	*karpv1.NodeClaim
	// serves: the network is the one of the claim's node class.
	serves bool
	// outdated is why the node is to be replaced, "" when it is as the network wants it.
	outdated cloudprovider.DriftReason
}

// claims lists the NodeClaims of the node classes that the network serves, those from before it among them, and those that it
// has launched for node classes that it no longer serves. One that is being deleted is a node until it is gone: its pods may not
// have found another yet.
func (c *Controller) claims(ctx context.Context, network *v1alpha1.PodNetwork, nodeClasses []ec2nodeclass.EC2NodeClass) ([]claim, error) {
	networks := &v1alpha1.PodNetworkList{}
	if err := c.Client.List(ctx, networks); err != nil {
		return nil, fmt.Errorf("listing PodNetworks, %w", err)
	}
	served := map[string]bool{}
	for i := range nodeClasses {
		serving := podnetwork.Serving(networks.Items, &nodeClasses[i])
		served[nodeClasses[i].Name] = len(serving) > 0 && serving[0].Name == network.Name
	}
	list := &karpv1.NodeClaimList{}
	if err := c.Client.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing NodeClaims, %w", err)
	}
	var claims []claim
	for i := range list.Items {
		found := claim{NodeClaim: &list.Items[i]}
		found.serves = found.Spec.NodeClassRef != nil && served[found.Spec.NodeClassRef.Name]
		if !found.serves && found.Labels[v1alpha1.LabelPodNetwork] != network.Name {
			continue
		}
		found.outdated = podnetwork.Outdated(lo.Ternary(found.serves, network, nil), found.NodeClaim)
		claims = append(claims, found)
	}
	return claims, nil
}

// count nodes that are launched: one that is not cannot be outdated.
func count(claims []claim) v1alpha1.NodesStatus {
	var counted v1alpha1.NodesStatus
	for _, claim := range claims {
		if !launched(claim.NodeClaim) {
			continue
		}
		counted.Total++
		if claim.outdated == "" {
			counted.Current++
		} else {
			counted.Outdated++
		}
	}
	return counted
}

func launched(claim *karpv1.NodeClaim) bool {
	return claim.StatusConditions().Get(karpv1.ConditionTypeLaunched).IsTrue()
}

// migrateHashes gives claims whose hash was computed in another way the present one, as Karpenter does for its own: nothing is
// known of what they were launched with, and an upgrade must not replace a fleet. One that is to be replaced stays so.
func (c *Controller) migrateHashes(ctx context.Context, network *v1alpha1.PodNetwork, claims []claim) error {
	for i := range claims {
		found := &claims[i]
		hash, version := found.Annotations[v1alpha1.AnnotationPodNetworkHash], found.Annotations[v1alpha1.AnnotationPodNetworkHashVersion]
		if !found.serves || hash == "" || version == v1alpha1.PodNetworkHashVersion {
			continue
		}
		migrated := map[string]string{v1alpha1.AnnotationPodNetworkHashVersion: v1alpha1.PodNetworkHashVersion}
		if found.StatusConditions().Get(karpv1.ConditionTypeDrifted) == nil {
			migrated[v1alpha1.AnnotationPodNetworkHash] = network.Hash()
		}
		if err := c.annotate(ctx, found.NodeClaim, migrated); err != nil {
			return err
		}
		found.outdated = podnetwork.Outdated(network, found.NodeClaim)
	}
	return nil
}

// wakeDriftChecks makes Karpenter look at each claim whose verdict has changed.
func (c *Controller) wakeDriftChecks(ctx context.Context, network *v1alpha1.PodNetwork, claims []claim) error {
	if !podnetwork.Settled(network) {
		return nil
	}
	for _, found := range claims {
		drifted := found.StatusConditions().Get(karpv1.ConditionTypeDrifted).IsTrue()
		verdict := fmt.Sprintf("%s of generation %d", lo.CoalesceOrEmpty(string(found.outdated), "Current"), network.Generation)
		if !launched(found.NodeClaim) || !found.DeletionTimestamp.IsZero() || drifted == (found.outdated != "") || found.Annotations[v1alpha1.AnnotationDriftVerdict] == verdict {
			continue
		}
		if err := c.annotate(ctx, found.NodeClaim, map[string]string{v1alpha1.AnnotationDriftVerdict: verdict}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) annotate(ctx context.Context, claim *karpv1.NodeClaim, annotations map[string]string) error {
	stored := claim.DeepCopy()
	claim.Annotations = lo.Assign(claim.Annotations, annotations)
	if err := c.Client.Patch(ctx, claim, client.MergeFrom(stored)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("annotating NodeClaim %s, %w", claim.Name, err))
	}
	return nil
}

// countPods counts for each zone's ENIConfig the nodes that it serves, and their pods.
func (c *Controller) countPods(ctx context.Context, network *v1alpha1.PodNetwork) error {
	nodes := &corev1.NodeList{}
	if err := c.Client.List(ctx, nodes, client.MatchingLabels{v1alpha1.LabelPodNetwork: network.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing Nodes, %w", err)
	}
	servedBy := map[string]*v1alpha1.ZoneStatus{}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		c.warnOfMaxPods(node)
		if zone := serving(network, node); zone != nil {
			zone.Nodes++
			servedBy[node.Name] = zone
		}
	}
	pods := &corev1.PodList{}
	if err := c.Client.List(ctx, pods, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing pods, %w", err)
	}
	for i := range pods.Items {
		if zone := servedBy[pods.Items[i].Spec.NodeName]; zone != nil && takesAddress(&pods.Items[i]) {
			zone.Pods++
		}
	}
	return nil
}

// serving returns the zone and ENIConfig that a node's pods have their addresses from.
func serving(network *v1alpha1.PodNetwork, node *corev1.Node) *v1alpha1.ZoneStatus {
	zone, name := node.Labels[corev1.LabelTopologyZone], podnetwork.ENIConfigOf(network, node)
	for i := range network.Status.Zones {
		if found := &network.Status.Zones[i]; found.Zone == zone && found.ENIConfig == name {
			return found
		}
	}
	return nil
}

func takesAddress(pod *corev1.Pod) bool {
	return !pod.Spec.HostNetwork && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// warnOfMaxPods tells of a node that Karpenter takes for larger or smaller than it is.
func (c *Controller) warnOfMaxPods(node *corev1.Node) {
	launched, err := strconv.ParseInt(node.Labels[v1alpha1.LabelMaxPods], 10, 64)
	reported := node.Status.Capacity.Pods().Value()
	if err != nil || reported == 0 || reported == launched {
		return
	}
	c.Recorder.Publish(warning(node.DeepCopy(), ReasonMaxPodsMismatch, fmt.Sprintf(
		"the node takes %d pods, and was launched for %d: let the AMI and the node class's user data leave the kubelet's maxPods to Dovetail", reported, launched)))
}
