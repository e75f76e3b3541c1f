// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// State of the node agent and the plugin, one file an address.
const (
	stateDir   = "/run/dovetail"
	leasesDir  = "/run/dovetail/leases"
	coolingDir = "/run/dovetail/cooling"
)

// reuseBatch is how many pods are started at a time until one gets a certain address: as many as a prefix holds.
const reuseBatch = 16

// Cooling is what became of a deleted pod's address.
type Cooling struct {
	Node    string
	Address netip.Addr
	// Cooldown is what the PodNetwork asks for.
	Cooldown time.Duration
	// Cooled is true when the address was in the node's cooling directory after the deletion.
	Cooled bool
	// Avoided counts pods that started on the node during the cooldown and got other addresses.
	Avoided int
	// ReusedBy is the pod that got the address again, ReusedAfter the time since the old pod's deletion.
	ReusedBy    string
	ReusedAfter time.Duration
}

// Check returns what is wrong.
func (c Cooling) Check() error {
	switch {
	case !c.Cooled:
		return fmt.Errorf("address %s did not cool on node %s after its pod was deleted", c.Address, c.Node)
	case c.ReusedBy == "":
		return fmt.Errorf("address %s was not given again", c.Address)
	case c.ReusedAfter < c.Cooldown:
		return fmt.Errorf("address %s was given to pod %s after %s; it should cool %s", c.Address, c.ReusedBy, c.ReusedAfter, c.Cooldown)
	}
	return nil
}

// Cooling deletes a pod of the scenario's own, then starts pods on the same node: at once, which must get other
// addresses, and again after the cooldown until one gets the deleted pod's.
func (s *Sandbox) Cooling(ctx context.Context, network string, node Node) (result Cooling, err error) {
	result = Cooling{Node: node.Name}
	if result.Cooldown, err = s.cooldown(ctx, network); err != nil {
		return result, err
	}
	var all []*corev1.Pod
	defer cleanup(ctx, &err, func(ctx context.Context) error { return s.deletePods(ctx, all) })

	first, err := s.startPods(ctx, "cooling", node.Name, 1, &all)
	if err != nil {
		return result, err
	}
	if result.Address, err = podAddress(first[0]); err != nil {
		return result, err
	}
	// The pod's network is torn down between deleted and gone: reuse earlier than a cooldown after the one is a failure for
	// certain, and reuse may be awaited from a cooldown after the other.
	deleted := time.Now()
	if err := s.deletePods(ctx, first); err != nil {
		return result, err
	}
	gone := time.Now()
	cooling, err := s.addresses(ctx, node, coolingDir)
	if err != nil {
		return result, err
	}
	result.Cooled = slices.Contains(cooling, result.Address)

	reuser := func(pods []*corev1.Pod) bool {
		for _, pod := range pods {
			if pod.Status.PodIP == result.Address.String() {
				result.ReusedBy, result.ReusedAfter = pod.Name, pod.CreationTimestamp.Sub(deleted)
				return true
			}
		}
		return false
	}
	during, err := s.startPods(ctx, "during", node.Name, 3, &all)
	if err != nil {
		return result, err
	}
	if reuser(during) {
		return result, nil
	}
	result.Avoided = len(during)

	select {
	case <-ctx.Done():
		return result, ctx.Err()
	case <-time.After(time.Until(gone.Add(result.Cooldown + time.Second))): // creation times have whole seconds
	}
	for batch := 0; ; batch++ {
		pods, err := s.startPods(ctx, fmt.Sprintf("after-%d", batch), node.Name, reuseBatch, &all)
		if err != nil {
			return result, fmt.Errorf("no pod got %s again among %d: %w", result.Address, batch*reuseBatch, err)
		}
		if reuser(pods) {
			return result, nil
		}
	}
}

// startPods creates pods on the node, adds them to all, and waits until they run.
func (s *Sandbox) startPods(ctx context.Context, prefix, node string, n int, all *[]*corev1.Pod) ([]*corev1.Pod, error) {
	pods, err := s.createPods(ctx, prefix, node, n)
	*all = append(*all, pods...)
	if err != nil {
		return nil, err
	}
	return s.waitPods(ctx, pods)
}

func (s *Sandbox) cooldown(ctx context.Context, network string) (time.Duration, error) {
	var object v1alpha1.PodNetwork
	if err := s.Kube.Get(ctx, client.ObjectKey{Name: network}, &object); err != nil {
		return 0, fmt.Errorf("reading PodNetwork %s: %w", network, err)
	}
	return object.Spec.Addressing.Rest(), nil
}

// addresses lists a directory of the node whose files are named after addresses.
func (s *Sandbox) addresses(ctx context.Context, node Node, dir string) ([]netip.Addr, error) {
	out, err := s.OnNode(ctx, node.InstanceID, "ls", dir)
	if err != nil {
		return nil, err
	}
	var found []netip.Addr
	for _, name := range strings.Fields(out) {
		if addr, err := netip.ParseAddr(name); err == nil { // a lock may lie beside the addresses
			found = append(found, addr)
		}
	}
	return found, nil
}

// CheckLeases compares the leases on a node with the addresses of the pods that run there, in a directory that is root's
// alone.
func (s *Sandbox) CheckLeases(ctx context.Context, node Node) error {
	mode, err := s.OnNode(ctx, node.InstanceID, "stat", "--format", "%u %a", stateDir)
	if err != nil {
		return err
	}
	if mode = strings.TrimSpace(mode); mode != "0 700" {
		return fmt.Errorf("%s on node %s is of mode %s, not root's alone", stateDir, node.Name, mode)
	}
	return until(ctx, "the leases of node "+node.Name+" are those of its pods", func(ctx context.Context) error {
		leases, err := s.addresses(ctx, node, leasesDir)
		if err != nil {
			return err
		}
		var pods corev1.PodList
		if err := s.Kube.List(ctx, &pods, client.MatchingFields{"spec.nodeName": node.Name}); err != nil {
			return err
		}
		var held []netip.Addr
		for i := range pods.Items {
			if pod := &pods.Items[i]; !pod.Spec.HostNetwork && pod.Status.PodIP != "" {
				addr, err := podAddress(pod)
				if err != nil {
					return err
				}
				held = append(held, addr)
			}
		}
		slices.SortFunc(leases, netip.Addr.Compare)
		slices.SortFunc(held, netip.Addr.Compare)
		if !slices.Equal(leases, held) {
			return fmt.Errorf("leases %v, pods have %v", leases, held)
		}
		return nil
	})
}
