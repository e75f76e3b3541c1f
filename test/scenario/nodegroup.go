// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// GroupNodes waits until a managed node group has so many Ready nodes, and returns them. Karpenter knows nothing of them.
func (s *Sandbox) GroupNodes(ctx context.Context, group string, n int) (nodes []Node, err error) {
	var list corev1.NodeList
	err = until(ctx, fmt.Sprintf("node group %s has %d Ready nodes", group, n), func(ctx context.Context) error {
		if err := s.Kube.List(ctx, &list, client.MatchingLabels{nodeGroupLabel: group}); err != nil {
			return err
		}
		ready := 0
		for i := range list.Items {
			if slices.ContainsFunc(list.Items[i].Status.Conditions, func(c corev1.NodeCondition) bool {
				return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
			}) {
				ready++
			}
		}
		if ready != n {
			return fmt.Errorf("it has %d", ready)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	inventory, err := s.inventory(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		node, err := s.node(ctx, &list.Items[i], inventory)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", list.Items[i].Name, err)
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// ConnectivityOfVPCCNI tries the network of nodes on which aws-node serves pods: from pods of the primary ENI to those of another ENI,
// and the other way round. Each node has pods of both.
func (s *Sandbox) ConnectivityOfVPCCNI(ctx context.Context, workload Workload, nodes []Node) (probes []Probe, err error) {
	sites, err := s.sites(ctx, workload, nodes)
	if err != nil {
		return nil, err
	}
	for i, at := range sites {
		primary := slices.IndexFunc(at.pods, func(pod *corev1.Pod) bool { return at.node.Primary.has(pod.Status.PodIP) })
		other := slices.IndexFunc(at.pods, func(pod *corev1.Pod) bool {
			return slices.ContainsFunc(at.node.PodENIs, func(e ENI) bool { return e.Subnet == at.node.Primary.Subnet && e.has(pod.Status.PodIP) })
		})
		if primary < 0 || other < 0 {
			return nil, fmt.Errorf("node %s has pods of one ENI only", at.node.Name)
		}
		sites[i].pods = []*corev1.Pod{at.pods[primary], at.pods[other]}
	}
	var problems []error
	for range 2 {
		tried, err := s.connectivity(ctx, sites)
		probes, problems = append(probes, tried...), append(problems, err)
		for i := range sites {
			slices.Reverse(sites[i].pods)
		}
	}
	return probes, errors.Join(problems...)
}

func (e ENI) has(address string) bool {
	addr, err := netip.ParseAddr(address)
	return err == nil && slices.Contains(e.Secondaries, addr)
}
