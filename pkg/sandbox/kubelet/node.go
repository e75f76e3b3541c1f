// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"time"

	"github.com/fsnotify/fsnotify"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/utils/ptr"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

const (
	heartbeatInterval = 10 * time.Second
	leaseSeconds      = 40
	// The hypervisor and the kernel keep some of an instance's memory: the guest sees less than the type's figure.
	visibleMemoryPercent = 97
	rootVolume           = "20Gi"
	// What a kubelet sets when its configuration does not.
	defaultEvictionMemory    = "100Mi"
	defaultEvictionNodeFSPct = 10
)

// register creates the Node as the kubelet does: with the taints and labels of the user data, not Ready.
func (k *Kubelet) register(ctx context.Context) error {
	capacity := k.capacity()
	labels := map[string]string{
		corev1.LabelHostname:                k.identity.hostname,
		corev1.LabelOSStable:                "linux",
		corev1.LabelArchStable:              runtime.GOARCH,
		corev1.LabelInstanceTypeStable:      k.identity.instanceType,
		corev1.LabelTopologyZone:            k.identity.zone,
		corev1.LabelTopologyRegion:          k.identity.region,
		"beta.kubernetes.io/os":             "linux",
		"beta.kubernetes.io/arch":           runtime.GOARCH,
		corev1.LabelInstanceType:            k.identity.instanceType,
		corev1.LabelFailureDomainBetaZone:   k.identity.zone,
		corev1.LabelFailureDomainBetaRegion: k.identity.region,
	}
	maps.Copy(labels, k.userData.Labels)
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: k.identity.hostname, Labels: labels},
		Spec: corev1.NodeSpec{
			ProviderID: fmt.Sprintf("aws:///%s/%s", k.identity.zone, k.identity.instanceID),
			Taints:     k.userData.Taints,
		},
		Status: corev1.NodeStatus{
			Capacity:    capacity,
			Allocatable: k.allocatable(capacity),
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: k.identity.ip.String()},
				{Type: corev1.NodeInternalDNS, Address: k.identity.hostname},
				{Type: corev1.NodeHostName, Address: k.identity.hostname},
			},
			NodeInfo: corev1.NodeSystemInfo{
				Architecture: runtime.GOARCH, OperatingSystem: "linux", OSImage: "Dovetail sandbox", KubeletVersion: "v1.35.4-dovetail-sandbox",
				ContainerRuntimeVersion: "dovetail://sandbox", MachineID: k.identity.instanceID, SystemUUID: k.identity.instanceID,
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

func (k *Kubelet) maxPods() int {
	if k.userData.MaxPods > 0 {
		return k.userData.MaxPods
	}
	return k.hardware.MaxPods
}

func (k *Kubelet) capacity() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(k.hardware.CPUs, resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(k.hardware.MemoryMiB<<20*visibleMemoryPercent/100, resource.BinarySI),
		corev1.ResourceEphemeralStorage: resource.MustParse(rootVolume),
		corev1.ResourcePods:             *resource.NewQuantity(int64(k.maxPods()), resource.DecimalSI),
	}
}

// allocatable subtracts what is reserved. Where the user data reserve nothing for the kubelet, the AMI's bootstrap does.
func (k *Kubelet) allocatable(capacity corev1.ResourceList) corev1.ResourceList {
	reserved := k.userData.KubeReserved
	if len(reserved) == 0 {
		reserved = map[string]string{
			"cpu":               fmt.Sprintf("%dm", podcapacity.KubeReservedCPUMillis(int(capacity.Cpu().Value()))),
			"memory":            fmt.Sprintf("%dMi", podcapacity.KubeReservedMemoryMiB(k.maxPods())),
			"ephemeral-storage": "1Gi",
		}
	}
	allocatable := capacity.DeepCopy()
	subtract := func(name corev1.ResourceName, amount string) {
		quantity, err := resource.ParseQuantity(amount)
		if total, ok := allocatable[name]; err == nil && ok {
			total.Sub(quantity)
			allocatable[name] = total
		}
	}
	for _, list := range []map[string]string{reserved, k.userData.SystemReserved} {
		for name, amount := range list {
			subtract(corev1.ResourceName(name), amount)
		}
	}
	eviction := k.userData.EvictionHard["memory.available"]
	if eviction == "" {
		eviction = defaultEvictionMemory
	}
	subtract(corev1.ResourceMemory, eviction)
	storage := capacity.StorageEphemeral().Value() * defaultEvictionNodeFSPct / 100
	subtract(corev1.ResourceEphemeralStorage, resource.NewQuantity(storage, resource.BinarySI).String())
	return allocatable
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
	node, err := k.client.CoreV1().Nodes().PatchStatus(ctx, k.identity.hostname, patch)
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
		HolderIdentity: &k.identity.hostname, LeaseDurationSeconds: ptr.To[int32](leaseSeconds), RenewTime: ptr.To(metav1.NowMicro()),
	}
	patch, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		return err
	}
	_, err = leases.Patch(ctx, k.identity.hostname, types.MergePatchType, patch, metav1.PatchOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: k.node.Name, UID: k.node.UID}
	_, err = leases.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: k.identity.hostname, OwnerReferences: []metav1.OwnerReference{owner}}, Spec: spec,
	}, metav1.CreateOptions{})
	return err
}
