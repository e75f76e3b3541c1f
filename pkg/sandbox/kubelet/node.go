// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
)

const (
	heartbeatInterval = 10 * time.Second
	leaseSeconds      = 40
)

// NewNode is what the kubelet of a machine creates: with the taints and labels of the user data.
func NewNode(m bootstrap.Machine, conditions []corev1.NodeCondition) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: m.Hostname, Labels: m.NodeLabels()},
		Spec: corev1.NodeSpec{
			ProviderID: m.ProviderID(),
			Taints:     m.Taints,
		},
		Status: corev1.NodeStatus{
			Capacity:    m.Capacity(),
			Allocatable: m.Allocatable(),
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: m.IP.String()},
				{Type: corev1.NodeInternalDNS, Address: m.Hostname},
				{Type: corev1.NodeHostName, Address: m.Hostname},
			},
			NodeInfo: corev1.NodeSystemInfo{
				Architecture: m.Arch(), OperatingSystem: "linux", OSImage: "Dovetail sandbox", KubeletVersion: "v1.35.4-dovetail-sandbox",
				ContainerRuntimeVersion: "dovetail://sandbox", MachineID: m.InstanceID, SystemUUID: m.InstanceID,
			},
			Conditions: conditions,
		},
	}
}

// register creates the Node as the kubelet does, not Ready.
func (k *Kubelet) register(ctx context.Context) error {
	node := NewNode(k.machine, k.conditions(nil))
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = port
	return poll(ctx, time.Second, func(ctx context.Context) error {
		registered, err := Register(ctx, k.heartbeats, node)
		if err != nil {
			k.opts.Log.Warn("creating the node", "error", err)
		}
		k.node = registered
		return err
	})
}

// Register creates the Node, or finds it where it was registered before.
func Register(ctx context.Context, client kubernetes.Interface, node *corev1.Node) (*corev1.Node, error) {
	registered, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return client.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
	}
	return registered, err
}

// heartbeat keeps the Node's conditions and its lease, and reacts at once when the CNI configuration appears or goes.
func (k *Kubelet) heartbeat(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching %s: %w", k.opts.CNIConfDir, err)
	}
	defer watcher.Close()
	if err := watcher.Add(k.opts.CNIConfDir); err != nil {
		return fmt.Errorf("watching %s: %w", k.opts.CNIConfDir, err)
	}
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for {
		if err := k.network.load(); err != nil && k.network.readyBefore() {
			k.opts.Log.Warn("CNI configuration", "error", err)
		}
		if err := k.updateStatus(ctx); err != nil && ctx.Err() == nil {
			k.opts.Log.Warn("updating the node's status", "error", err)
		}
		if err := RenewLease(ctx, k.heartbeats, k.node); err != nil && ctx.Err() == nil {
			k.opts.Log.Warn("renewing the node's lease", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-watcher.Events:
		case err := <-watcher.Errors:
			return fmt.Errorf("watching %s: %w", k.opts.CNIConfDir, err)
		}
	}
}

func (k *Kubelet) updateStatus(ctx context.Context) error {
	wanted := k.node.DeepCopy()
	wanted.Status.Conditions = k.conditions(k.node.Status.Conditions)
	before, err := json.Marshal(k.node)
	if err != nil {
		return err
	}
	after, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Node{})
	if err != nil {
		return err
	}
	node, err := k.heartbeats.CoreV1().Nodes().PatchStatus(ctx, k.machine.Hostname, patch)
	if err != nil {
		return err
	}
	k.node = node
	return nil
}

// conditions in the kubelet's words. Times of transition are kept from those that were, and so are the conditions of others.
func (k *Kubelet) conditions(before []corev1.NodeCondition) []corev1.NodeCondition {
	conditions := Conditions(k.network.err())
	for i := range conditions {
		for _, old := range before {
			if old.Type == conditions[i].Type && old.Status == conditions[i].Status {
				conditions[i].LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	for _, old := range before {
		own := slices.ContainsFunc(conditions, func(c corev1.NodeCondition) bool { return c.Type == old.Type })
		if !own {
			conditions = append(conditions, old)
		}
	}
	return conditions
}

// Conditions of a healthy kubelet whose network is in this state.
func Conditions(network error) []corev1.NodeCondition {
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if network != nil {
		ready.Status, ready.Reason = corev1.ConditionFalse, "KubeletNotReady"
		ready.Message = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: " + network.Error()
	}
	healthy := func(t corev1.NodeConditionType, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message}
	}
	conditions := []corev1.NodeCondition{
		healthy(corev1.NodeMemoryPressure, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		healthy(corev1.NodeDiskPressure, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		healthy(corev1.NodePIDPressure, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		ready,
	}
	now := metav1.Now()
	for i := range conditions {
		conditions[i].LastHeartbeatTime, conditions[i].LastTransitionTime = now, now
	}
	return conditions
}

// RenewLease tells the node lifecycle controller that the node's kubelet lives, for 40 s.
func RenewLease(ctx context.Context, client kubernetes.Interface, node *corev1.Node) error {
	leases := client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	spec := coordinationv1.LeaseSpec{
		HolderIdentity: &node.Name, LeaseDurationSeconds: ptr.To[int32](leaseSeconds), RenewTime: ptr.To(metav1.NowMicro()),
	}
	patch, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		return err
	}
	_, err = leases.Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
	_, err = leases.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, OwnerReferences: []metav1.OwnerReference{owner}}, Spec: spec,
	}, metav1.CreateOptions{})
	return err
}
