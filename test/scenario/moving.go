// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/google/shlex"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// keepAway begins the command that the condition AgentReady names.
const keepAway = "kubectl -n kube-system patch daemonset aws-node"

// KeepVPCCNIAway waits until the network says that aws-node selects its nodes, and does what it says to do about that.
func (s *Sandbox) KeepVPCCNIAway(ctx context.Context, network string) (said string, err error) {
	said, err = s.waitCondition(ctx, network, v1alpha1.ConditionAgentReady, metav1.ConditionFalse, keepAway)
	if err != nil {
		return said, err
	}
	words, err := shlex.Split(said[strings.Index(said, keepAway):])
	if err != nil {
		return said, fmt.Errorf("reading the command in %q: %w", said, err)
	}
	at := slices.Index(words, "-p")
	if at < 0 || at+1 == len(words) {
		return said, fmt.Errorf("there is no patch in %q", said)
	}
	daemonSet := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "aws-node"}}
	if err := s.Kube.Patch(ctx, daemonSet, client.RawPatch(types.MergePatchType, []byte(words[at+1]))); err != nil {
		return said, fmt.Errorf("patching aws-node: %w", err)
	}
	return said, nil
}

// Instances of all nodes but the system's.
func (s *Sandbox) Instances(ctx context.Context) ([]string, error) {
	var nodes corev1.NodeList
	if err := s.Kube.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	var instances []string
	for i := range nodes.Items {
		if nodes.Items[i].Labels[nodeGroupLabel] != "system" {
			instances = append(instances, path.Base(nodes.Items[i].Spec.ProviderID))
		}
	}
	return instances, nil
}

// Moving is how far pods and nodes are on their way to a pod network.
type Moving struct {
	// Outdated nodes of Karpenter's, Current ones, and others' that are done of those to be done.
	Outdated, Current, OthersDone, Others int32
	// Moved pods have addresses of the CIDR, Staying ones have others, Waiting ones have none.
	Moved, Staying, Waiting int
	// Blocked is what a NodeMigration waits for.
	Blocked string
}

// WaitMoved waits until the network's nodes are replaced, the NodeMigration is complete, and all pods of the workloads run in the CIDR. The
// Node objects of instances that Karpenter does not own go later: see WaitGone.
func (s *Sandbox) WaitMoved(ctx context.Context, p MoveParams, report func(Moving)) error {
	var last Moving
	return until(ctx, "all pods and nodes are in "+p.CIDR.String(), func(ctx context.Context) error {
		network, migration := &v1alpha1.PodNetwork{}, &v1alpha1.NodeMigration{}
		if err := errors.Join(s.Kube.Get(ctx, client.ObjectKey{Name: p.PodNetwork}, network), s.Kube.Get(ctx, client.ObjectKey{Name: p.NodeMigration}, migration)); err != nil {
			return err
		}
		now := Moving{
			Outdated: network.Status.Nodes.Outdated, Current: network.Status.Nodes.Current,
			OthersDone: migration.Status.Nodes.Done, Others: migration.Status.Nodes.Total,
		}
		if len(migration.Status.Blocked) > 0 {
			now.Blocked = migration.Status.Blocked[0].Reason
		}
		wanted := 0
		for _, workload := range p.Workloads {
			wanted += workload.Replicas
			if err := s.countMoved(ctx, workload, p.CIDR, &now); err != nil {
				return err
			}
		}
		if now != last {
			last = now
			report(now)
		}
		switch {
		case !network.StatusConditions().Get(v1alpha1.ConditionMigrationComplete).IsTrue():
			return fmt.Errorf("PodNetwork %s: nodes are %+v", network.Name, network.Status.Nodes)
		case migration.Status.Phase != v1alpha1.MigrationComplete:
			return fmt.Errorf("NodeMigration %s is %s: %+v", migration.Name, migration.Status.Phase, migration.Status.Blocked)
		case now.Moved != wanted || now.Staying+now.Waiting > 0:
			return fmt.Errorf("of %d pods %d are there, %d elsewhere, %d nowhere", wanted, now.Moved, now.Staying, now.Waiting)
		}
		return nil
	})
}

// MoveParams of WaitMoved.
type MoveParams struct {
	PodNetwork, NodeMigration string
	CIDR                      netip.Prefix
	Workloads                 []Workload
}

func (s *Sandbox) countMoved(ctx context.Context, workload Workload, cidr netip.Prefix, m *Moving) error {
	var list corev1.PodList
	if err := s.Kube.List(ctx, &list, client.InNamespace(workload.Key.Namespace), workload.Selector); err != nil {
		return err
	}
	for i := range list.Items {
		pod := &list.Items[i]
		addr, err := netip.ParseAddr(pod.Status.PodIP)
		switch {
		case pod.DeletionTimestamp != nil:
		case err != nil:
			m.Waiting++
		case cidr.Contains(addr):
			m.Moved++
		default:
			m.Staying++
		}
	}
	return nil
}
