// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/samber/lo"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// hold what the cluster's nodes hold besides their first address, until they go. Nodes of a pod network have that set aside already.
func (t *theater) hold(ctx context.Context, c *Cluster) error {
	nodes, claims := &corev1.NodeList{}, &karpv1.NodeClaimList{}
	if err := t.Kube.List(ctx, nodes); err != nil {
		return err
	}
	if err := t.Kube.List(ctx, claims); err != nil {
		return err
	}
	for i := range claims.Items {
		if name := t.was[claims.Items[i].Name]; name != "" {
			t.was[instanceOf(claims.Items[i].Status.ProviderID)] = name
		}
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	for i := range nodes.Items {
		instance := instanceOf(nodes.Items[i].Spec.ProviderID)
		if was := t.was[instance]; was != "" {
			t.names[was] = nodes.Items[i].Name // pods may ask for it
		}
		has, ok := c.VPC.Nodes[t.was[instance]]
		if _, onNetwork := nodes.Items[i].Labels[v1alpha1.LabelPodNetwork]; !ok || onNetwork {
			continue
		}
		all.Go(func() error { return t.holdFor(ctx, instance, has.Holds) })
	}
	return all.Wait()
}

// holdFor an instance, in ENIs with prefixes and others with addresses.
func (t *theater) holdFor(ctx context.Context, instance string, holds []Holding) error {
	for _, h := range holds {
		addresses, prefixes := h.Addresses, h.Prefixes
		for addresses > 0 || prefixes > 0 {
			input := &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(t.names.of(h.Subnet)), Description: aws.String("of " + instance)}
			addresses-- // its own
			if n := min(prefixes, slots); n > 0 {
				input.Ipv4PrefixCount = aws.Int32(int32(n)) //nolint:gosec // at most slots
				prefixes -= n
			} else if n := min(addresses, slots); n > 0 {
				input.SecondaryPrivateIpAddressCount = aws.Int32(int32(n)) //nolint:gosec // at most slots
				addresses -= n
			}
			out, err := t.ec2.CreateNetworkInterface(ctx, input)
			if err != nil && ignore(err, "InsufficientFreeAddressesInSubnet") != nil && ignore(err, "InsufficientCidrBlocks") != nil {
				return fmt.Errorf("addresses of node %s in subnet %s: %w", t.was[instance], h.Subnet, err)
			}
			t.holding.Lock()
			if err != nil {
				t.note("subnet %s had no room for all that node %s holds", h.Subnet, t.was[instance])
			} else {
				t.held[instance] = append(t.held[instance], aws.ToString(out.NetworkInterface.NetworkInterfaceId))
			}
			t.holding.Unlock()
		}
	}
	return nil
}

// letGo of what nodes held that are gone.
func (t *theater) letGo(ctx context.Context, nodes []corev1.Node) error {
	there := lo.SliceToMap(nodes, func(n corev1.Node) (string, bool) { return instanceOf(n.Spec.ProviderID), true })
	for instance, enis := range t.held {
		if there[instance] {
			continue
		}
		for _, id := range enis {
			if _, err := t.ec2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &id}); ignore(err, "InvalidNetworkInterfaceID.NotFound") != nil {
				return fmt.Errorf("addresses of node %s, which is gone: %w", t.was[instance], err)
			}
		}
		delete(t.held, instance)
	}
	return nil
}
