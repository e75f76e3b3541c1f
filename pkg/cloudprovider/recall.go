// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// recall tells the ledger, before the first launch, of the nodes that controllers before this one have launched.
func (c *CloudProvider) recall(ctx context.Context) error {
	c.recalling.Lock()
	defer c.recalling.Unlock()
	if c.recalled {
		return nil
	}
	claims := &karpv1.NodeClaimList{}
	if err := c.Client.List(ctx, claims); err != nil {
		return fmt.Errorf("listing NodeClaims, %w", err)
	}
	for i := range claims.Items {
		if err := c.recallOne(ctx, &claims.Items[i]); err != nil {
			return err
		}
	}
	c.recalled = true
	return nil
}

func (c *CloudProvider) recallOne(ctx context.Context, claim *karpv1.NodeClaim) error {
	if podnetwork.Recall(c.PodSubnets.Ledger, claim) {
		return nil
	}
	nodeClass, network, err := c.networkOf(ctx, claim.Spec.NodeClassRef)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if network == nil {
		return nil
	}
	if instance := podnetwork.InstanceOf(claim); instance != "" {
		// Launched before needs were stamped: its labels say the same. One from before the network takes nothing of it.
		if place, found := placeOf(network, claim); found && claim.Labels[v1alpha1.LabelPodNetwork] == network.Name {
			c.PodSubnets.Ledger.Stamped(claim.Name, place.Subnet, launch.NeedOfNode(ctx, network, claim.Labels), instance)
		}
		return nil
	}
	if !claim.CreationTimestamp.Time.Before(c.LeadsSince()) {
		return nil
	}
	// Its launch may have been under way when the last controller ended. Nobody knows of that instance, if there is one, until
	// Karpenter finds and ends it; meanwhile it takes what any of the claim's instance types can take, in any of its zones.
	types, err := c.types(ctx, nodeClass)
	if err != nil {
		return fmt.Errorf("resolving instance types, %w", err)
	}
	var subnets []string
	for _, place := range slices.Concat(allowed(network, claim)...) {
		subnets = append(subnets, place.Subnet)
	}
	if group, ok := launch.Launchable(types.All(), claim); ok {
		c.PodSubnets.Ledger.Suspect(claim.Name, launch.MostOf(ctx, network, group.InstanceTypes), subnets...)
	}
	return nil
}

func placeOf(network *v1alpha1.PodNetwork, claim *karpv1.NodeClaim) (podnetwork.Place, bool) {
	name := podnetwork.ENIConfigOf(network, claim)
	for _, z := range network.Status.Zones {
		if z.Zone == claim.Labels[corev1.LabelTopologyZone] && z.ENIConfig == name {
			return podnetwork.Place{Zone: z.Zone, ENIConfig: z.ENIConfig, Subnet: z.Subnet}, true
		}
	}
	return podnetwork.Place{}, false
}
