// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// CheckReadyConditions waits until each node says that its pod network is ready.
func (s *Sandbox) CheckReadyConditions(ctx context.Context, nodes []Node) error {
	for _, node := range nodes {
		if _, err := s.waitReadyCondition(ctx, node, corev1.ConditionTrue); err != nil {
			return err
		}
	}
	return nil
}

// waitReadyCondition waits for a status of the node's pod network.
func (s *Sandbox) waitReadyCondition(ctx context.Context, node Node, wanted corev1.ConditionStatus) (condition corev1.NodeCondition, err error) {
	what := fmt.Sprintf("condition %s of node %s is %s", v1alpha1.ConditionPodNetworkReady, node.Name, wanted)
	err = until(ctx, what, func(ctx context.Context) error {
		var object corev1.Node
		if err := s.Kube.Get(ctx, client.ObjectKey{Name: node.Name}, &object); err != nil {
			return err
		}
		i := slices.IndexFunc(object.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == v1alpha1.ConditionPodNetworkReady })
		if i < 0 {
			return errors.New("the node does not have it")
		}
		if condition = object.Status.Conditions[i]; condition.Status != wanted {
			return fmt.Errorf("it is %s: %s: %s", condition.Status, condition.Reason, condition.Message)
		}
		return nil
	})
	return condition, err
}

// Short is what a node says whose role lost the right to get addresses, while more pods come than it has addresses for.
type Short struct {
	Condition corev1.NodeCondition
	// Status is what the agent printed then.
	Status string
}

// MissingPermission takes the agents' right to get addresses away, starts more pods on a node than it has addresses for, and
// waits until the node says why they wait; then the pods go, and the node is ready again.
func (s *Sandbox) MissingPermission(ctx context.Context, nodes []Node) (result Short, err error) {
	i := slices.IndexFunc(nodes, func(n Node) bool { return n.MaxPods >= n.Prefixes()*16+2*beyond })
	if i < 0 {
		return result, errors.New("each node has as many addresses as pods can be on it")
	}
	node := nodes[i]
	defer cleanup(ctx, &err, func(ctx context.Context) error {
		_, err := s.Dovetail(ctx, "fault", "clear")
		return err
	})
	for _, action := range []string{"AssignPrivateIpAddresses", "CreateNetworkInterface"} {
		if _, err := s.Dovetail(ctx, "fault", "add", "error", action, "UnauthorizedOperation"); err != nil {
			return result, err
		}
	}
	n, err := s.beyondAddresses(ctx, node, beyond)
	if err != nil {
		return result, err
	}
	pods, err := s.createPods(ctx, "short", node.Name, n)
	defer cleanup(ctx, &err, func(ctx context.Context) error { return s.deletePods(ctx, pods) })
	if err != nil {
		return result, err
	}
	if result.Condition, err = s.waitReadyCondition(ctx, node, corev1.ConditionFalse); err != nil {
		return result, err
	}
	if result.Status, err = s.OnNode(ctx, node.InstanceID, filepath.Join(s.opts.BinDir, agentProgram), "status"); err != nil {
		return result, err
	}
	if err := s.deletePods(ctx, pods); err != nil {
		return result, err
	}
	_, err = s.waitReadyCondition(ctx, node, corev1.ConditionTrue)
	return result, err
}

// beyondAddresses is how many further pods are so many more than a node has addresses for now.
func (s *Sandbox) beyondAddresses(ctx context.Context, node Node, more int) (int, error) {
	prefixes, err := s.pool(ctx, node)
	if err != nil {
		return 0, err
	}
	leases, err := s.addresses(ctx, node, leasesDir)
	return len(prefixes)*16 - len(leases) + more, err
}

// NodeStatus is what the agent of a node prints of itself. It is checked: its leases are those in the files, and it finds the
// kernel as it should be.
func (s *Sandbox) NodeStatus(ctx context.Context, node Node) (printed string, err error) {
	err = until(ctx, "the agent of node "+node.Name+" tells of all leases", func(ctx context.Context) error {
		leases, err := s.addresses(ctx, node, leasesDir)
		if err != nil {
			return err
		}
		if printed, err = s.OnNode(ctx, node.InstanceID, filepath.Join(s.opts.BinDir, agentProgram), "status"); err != nil {
			return err
		}
		for _, address := range leases {
			if !strings.Contains(printed, "\n"+address.String()+" ") {
				return fmt.Errorf("%s is leased, and not in what the agent prints:\n%s", address, printed)
			}
		}
		out, err := s.Kubectl(ctx, "node", "status", node.Name, "-o", "json")
		if err != nil {
			return err
		}
		var document struct {
			Addresses struct{ Leased int }
			ENIs      []struct{ ID string }
			Kernel    struct{ Differences []any }
		}
		if err := json.Unmarshal([]byte(out), &document); err != nil {
			return fmt.Errorf("dovetail node status: %w: %s", err, out)
		}
		if document.Addresses.Leased != len(leases) || len(document.Kernel.Differences) > 0 {
			return fmt.Errorf("%d addresses are leased; dovetail node status prints %s", len(leases), out)
		}
		for _, eni := range node.PodENIs {
			if !slices.Contains(document.ENIs, struct{ ID string }{eni.ID}) {
				return fmt.Errorf("ENI %s is attached; dovetail node status prints %s", eni.ID, out)
			}
		}
		return nil
	})
	return printed, err
}

// CheckAgentMetrics waits until the agent of a node has counted an ADD of its plugin and a call of EC2 that succeeded.
func (s *Sandbox) CheckAgentMetrics(ctx context.Context, node Node) error {
	return until(ctx, "the agent of node "+node.Name+" has counted what happened", func(ctx context.Context) error {
		scraped, err := s.OnNode(ctx, node.InstanceID, s.netprobe("get", agentMetrics)...)
		if err != nil {
			return err
		}
		for _, series := range []string{
			`dovetail_agent_cni_duration_seconds_count{code="0",verb="ADD"} `,
			awsCalls + `code="OK",operation="CreateNetworkInterface",service="EC2"} `,
			`dovetail_agent_pod_network_ready `,
		} {
			_, value, found := strings.Cut(scraped, "\n"+series)
			if !found || strings.HasPrefix(value, "0\n") {
				return fmt.Errorf("%sis nothing", series)
			}
		}
		return nil
	})
}
