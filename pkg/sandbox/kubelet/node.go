// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/fsnotify/fsnotify"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/utils/ptr"
)

const (
	heartbeatInterval = 10 * time.Second
	leaseSeconds      = 40
)

// register creates the Node as the kubelet does: with the taints and labels of the user data, not Ready.
func (k *Kubelet) register(ctx context.Context) error {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: k.machine.Hostname, Labels: k.machine.NodeLabels()},
		Spec: corev1.NodeSpec{
			ProviderID: k.machine.ProviderID(),
			Taints:     k.machine.Taints,
		},
		Status: corev1.NodeStatus{
			Capacity:    k.machine.Capacity(),
			Allocatable: k.machine.Allocatable(),
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: k.machine.IP.String()},
				{Type: corev1.NodeInternalDNS, Address: k.machine.Hostname},
				{Type: corev1.NodeHostName, Address: k.machine.Hostname},
			},
			NodeInfo: corev1.NodeSystemInfo{
				Architecture: runtime.GOARCH, OperatingSystem: "linux", OSImage: "Dovetail sandbox", KubeletVersion: "v1.35.4-dovetail-sandbox",
				ContainerRuntimeVersion: "dovetail://sandbox", MachineID: k.machine.InstanceID, SystemUUID: k.machine.InstanceID,
			},
			Conditions: k.conditions(nil),
		},
	}
	return poll(ctx, time.Second, func(ctx context.Context) error {
		created, err := k.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
		switch {
		case apierrors.IsAlreadyExists(err):
			created, err = k.client.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
		case err != nil:
			k.opts.Log.Warn("creating the node", "error", err)
		}
		k.node = created
		return err
	})
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
		if err := k.renewLease(ctx); err != nil && ctx.Err() == nil {
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
	node, err := k.client.CoreV1().Nodes().PatchStatus(ctx, k.machine.Hostname, patch)
	if err != nil {
		return err
	}
	k.node = node
	return nil
}

// conditions in the kubelet's words. Times of transition are kept from those that were.
func (k *Kubelet) conditions(before []corev1.NodeCondition) []corev1.NodeCondition {
	now := metav1.Now()
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if err := k.network.err(); err != nil {
		ready.Status, ready.Reason = corev1.ConditionFalse, "KubeletNotReady"
		ready.Message = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: " + err.Error()
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
	for i := range conditions {
		conditions[i].LastHeartbeatTime, conditions[i].LastTransitionTime = now, now
		for _, old := range before {
			if old.Type == conditions[i].Type && old.Status == conditions[i].Status {
				conditions[i].LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	return conditions
}

func (k *Kubelet) renewLease(ctx context.Context) error {
	leases := k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	spec := coordinationv1.LeaseSpec{
		HolderIdentity: &k.machine.Hostname, LeaseDurationSeconds: ptr.To[int32](leaseSeconds), RenewTime: ptr.To(metav1.NowMicro()),
	}
	patch, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		return err
	}
	_, err = leases.Patch(ctx, k.machine.Hostname, types.MergePatchType, patch, metav1.PatchOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: k.node.Name, UID: k.node.UID}
	_, err = leases.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: k.machine.Hostname, OwnerReferences: []metav1.OwnerReference{owner}}, Spec: spec,
	}, metav1.CreateOptions{})
	return err
}
