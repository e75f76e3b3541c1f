// SPDX-License-Identifier: Apache-2.0

package hollow

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/kubelet"
)

const (
	workers = 16
	byNode  = "node"
)

// addresses of pods: the range that RFC 2544 keeps for benchmarks. No packet has them.
var addresses = netip.MustParsePrefix("198.18.0.0/15")

// pods of all hollow nodes.
type pods struct {
	nodes    *Nodes
	informer cache.SharedIndexInformer
	queue    workqueue.TypedRateLimitingInterface[types.NamespacedName]

	mu       sync.Mutex
	admitted map[string]map[types.UID]bool // by node
	last     netip.Addr                    // the address that was given last
}

func newPods(n *Nodes) *pods {
	factory := informers.NewSharedInformerFactoryWithOptions(n.client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermNotEqualSelector("spec.nodeName", "").String()
	}))
	return &pods{
		nodes: n, informer: factory.Core().V1().Pods().Informer(), admitted: map[string]map[types.UID]bool{}, last: addresses.Addr(),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]()),
	}
}

func (p *pods) run(ctx context.Context) error {
	err := p.informer.AddIndexers(cache.Indexers{byNode: func(o any) ([]string, error) { return []string{o.(*corev1.Pod).Spec.NodeName}, nil }})
	if err != nil {
		return err
	}
	_, err = p.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { p.add(o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { p.add(o.(*corev1.Pod)) },
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			p.release(o.(*corev1.Pod))
		},
	})
	if err != nil {
		return err
	}
	var done sync.WaitGroup
	done.Go(func() { p.informer.RunWithContext(ctx) })
	for range workers {
		done.Go(func() { p.work(ctx) })
	}
	<-ctx.Done()
	p.queue.ShutDown()
	done.Wait()
	return nil
}

func (p *pods) add(pod *corev1.Pod) {
	p.queue.Add(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
}

// wake looks at the pods that were bound to a node before its kubelet was there: those of DaemonSets are.
func (p *pods) wake(node string) {
	bound, err := p.informer.GetIndexer().ByIndex(byNode, node)
	if err != nil {
		return // not running yet: the pods are still to be listed
	}
	for _, o := range bound {
		p.add(o.(*corev1.Pod))
	}
}

func (p *pods) forget(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.admitted, node)
}

func (p *pods) release(pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.admitted[pod.Spec.NodeName], pod.UID)
}

func (p *pods) work(ctx context.Context) {
	for {
		key, shutdown := p.queue.Get()
		if shutdown {
			return
		}
		if err := p.reconcile(ctx, key); err != nil && ctx.Err() == nil {
			p.nodes.log.Warn("hollow pod", "pod", key, "error", err)
			p.queue.AddRateLimited(key)
		} else {
			p.queue.Forget(key)
		}
		p.queue.Done(key)
	}
}

func (p *pods) reconcile(ctx context.Context, key types.NamespacedName) error {
	o, exists, err := p.informer.GetStore().GetByKey(key.String())
	if err != nil || !exists {
		return err
	}
	pod := o.(*corev1.Pod)
	machine, ok := p.nodes.Machine(pod.Spec.NodeName)
	if !ok {
		return nil // not one of ours
	}
	client := p.nodes.client.CoreV1().Pods(pod.Namespace)
	switch {
	case pod.DeletionTimestamp != nil:
		if left := time.Until(kubelet.EndOf(pod)); left > 0 {
			p.queue.AddAfter(key, left)
			return nil
		}
		err = client.Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &pod.UID},
		})
	case pod.Status.Phase != corev1.PodPending:
		return nil
	default:
		var patch []byte
		if patch, err = json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: pod.UID}, Status: p.status(pod, machine.IP, machine.MaxPods())}); err != nil {
			return err
		}
		_, err = client.Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // it is gone, or another one has its name
		return nil
	}
	return err
}

// status of a pod that its kubelet has just admitted, or refused.
func (p *pods) status(pod *corev1.Pod, host netip.Addr, maxPods int) corev1.PodStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	admitted := p.admitted[pod.Spec.NodeName]
	if admitted == nil {
		admitted = map[types.UID]bool{}
		p.admitted[pod.Spec.NodeName] = admitted
	}
	now := metav1.Now()
	if !admitted[pod.UID] && len(admitted) >= maxPods {
		message := fmt.Sprintf("Node didn't have enough resource: pods, requested: 1, used: %d, capacity: %d", len(admitted), maxPods)
		return corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfpods", Message: message, StartTime: &now}
	}
	admitted[pod.UID] = true
	ip := host
	if !pod.Spec.HostNetwork {
		if p.last = p.last.Next(); !addresses.Contains(p.last) {
			p.last = addresses.Addr().Next()
		}
		ip = p.last
	}
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &now, HostIP: host.String(), HostIPs: []corev1.HostIP{{IP: host.String()}},
		PodIP: ip.String(), PodIPs: []corev1.PodIP{{IP: ip.String()}},
	}
	ready, started := corev1.ConditionTrue, true
	for _, c := range pod.Spec.Containers {
		answers := c.ReadinessProbe == nil || p.nodes.answers(c.Image)
		if !answers {
			ready = corev1.ConditionFalse
		}
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: c.Image, Ready: answers, Started: &started, ContainerID: "hollow://" + string(pod.UID) + "/" + c.Name,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	for _, condition := range []corev1.PodCondition{
		{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue}, {Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
		{Type: corev1.PodReady, Status: ready}, {Type: corev1.ContainersReady, Status: ready},
	} {
		condition.LastTransitionTime = now
		status.Conditions = append(status.Conditions, condition)
	}
	return status
}
