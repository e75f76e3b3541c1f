// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// servePods gives each pod bound to the node a worker, until the context ends.
func (k *Kubelet) servePods(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(k.client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", k.machine.Hostname).String()
	}))
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { k.dispatch(ctx, o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { k.dispatch(ctx, o.(*corev1.Pod)) },
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			pod := o.(*corev1.Pod).DeepCopy()
			now := metav1.Now() // deleted by force: there is nothing to wait for
			pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, new(int64)
			k.dispatch(ctx, pod)
		},
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

// dispatch hands a pod's newest state to its worker.
func (k *Kubelet) dispatch(ctx context.Context, pod *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	worker, ok := k.pods[pod.UID]
	if !ok {
		if pod.DeletionTimestamp == nil && finished(pod) {
			return
		}
		worker = &podWorker{k: k, uid: pod.UID, updates: make(chan *corev1.Pod, 1), refused: k.refusal(pod)}
		k.pods[pod.UID] = worker
		k.done.Go(func() { worker.run(ctx) })
	}
	select {
	case <-worker.updates: // the state before is of no interest any more
	default:
	}
	worker.updates <- pod
}

// refusal says why the kubelet does not admit a pod, "" when it does. The caller holds the lock.
func (k *Kubelet) refusal(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil || len(k.pods) < k.machine.MaxPods() {
		return ""
	}
	return fmt.Sprintf("Node didn't have enough resource: pods, requested: 1, used: %d, capacity: %d", len(k.pods), k.machine.MaxPods())
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// podWorker owns a pod on this node from its start to its end.
type podWorker struct {
	k       *Kubelet
	uid     types.UID
	updates chan *corev1.Pod
	refused string

	pod        *corev1.Pod      // as it was bound to the node: what containers are made from
	reported   corev1.PodStatus // as last written; only run touches it
	sandbox    sandbox
	ip         net.IP
	containers []*container
	status     chan struct{} // a container's state has changed
}

const (
	// shutdownGrace is what programs get when the instance shuts down.
	shutdownGrace = 2 * time.Second
	// statusRetry is after how long what the API server did not take is told again: a kubelet's status manager looks every 10 s.
	statusRetry = 10 * time.Second
)

func (w *podWorker) run(ctx context.Context) {
	defer func() {
		w.k.mu.Lock()
		delete(w.k.pods, w.uid)
		w.k.mu.Unlock()
		for _, c := range w.containers {
			w.k.containers.CompareAndDelete(c.key(), c) // another pod may have its name by now
		}
	}()
	w.pod = <-w.updates
	w.reported = *w.pod.Status.DeepCopy()
	w.status = make(chan struct{}, 1)
	if w.refused != "" {
		refused := corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfpods", Message: w.refused, StartTime: now()}
		_ = poll(ctx, statusRetry, func(ctx context.Context) error { return w.report(ctx, refused) })
		w.k.events.Event(w.pod, corev1.EventTypeWarning, "OutOfpods", w.refused)
		return
	}
	if w.pod.DeletionTimestamp != nil {
		w.finish(ctx, w.pod)
		return
	}
	starting, stop := context.WithCancel(ctx)
	defer stop()
	started := make(chan struct{})
	go func() {
		defer close(started)
		w.start(starting, ctx)
	}()
	running := false
	var retry <-chan time.Time // set while the API server does not know the newest status
	report := func() {
		retry = nil
		if w.report(ctx, w.runningStatus()) != nil {
			retry = time.After(statusRetry)
		}
	}
	for coming := started; ; {
		select {
		case <-ctx.Done():
			<-started
			grace, kill := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
			defer kill()
			for _, c := range w.containers {
				c.end(grace)
			}
			return
		case <-coming:
			coming, running = nil, true
			report()
		case <-retry:
			report()
		case <-w.status:
			if running {
				report()
			}
		case pod := <-w.updates:
			if pod.DeletionTimestamp == nil { // nothing of a pod's specification changes while it runs
				if running && isReady(pod.Status) != isReady(w.reported) {
					w.reported = *pod.Status.DeepCopy()
					report()
				}
				continue
			}
			stop()
			<-started
			w.finish(ctx, pod)
			return
		}
	}
}

// start brings the pod up: its network, its volumes, its init containers one after the other, then its containers, which
// live with another context. It tries for as long as the pod lives.
func (w *podWorker) start(ctx, life context.Context) {
	if w.pod.Spec.HostNetwork {
		w.ip = w.k.machine.IP.AsSlice()
	} else if err := w.startSandbox(ctx); err != nil {
		return
	}
	var volumes map[string]string
	err := poll(ctx, 2*time.Second, func(ctx context.Context) (err error) {
		if volumes, err = w.k.mountVolumes(ctx, w.pod); err != nil && ctx.Err() == nil {
			w.k.events.Eventf(w.pod, corev1.EventTypeWarning, "FailedMount", "MountVolume.SetUp failed: %v", err)
		}
		return err
	})
	if err != nil {
		return
	}
	for i := range w.pod.Spec.InitContainers {
		c := w.newContainer(&w.pod.Spec.InitContainers[i], volumes)
		if err := c.runToCompletion(ctx); err != nil {
			return
		}
	}
	for i := range w.pod.Spec.Containers {
		w.containers = append(w.containers, w.newContainer(&w.pod.Spec.Containers[i], volumes))
	}
	for _, c := range w.containers {
		c.start(life)
	}
}

// startSandbox tries until the pod has an address. Each attempt has a sandbox of its own, as in containerd.
func (w *podWorker) startSandbox(ctx context.Context) error {
	if err := w.k.network.err(); err != nil {
		w.k.events.Eventf(w.pod, corev1.EventTypeWarning, "NetworkNotReady",
			"network is not ready: container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: %v", err)
	}
	if _, err := w.k.network.config(ctx); err != nil {
		return err
	}
	backoff := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 20, Cap: 15 * time.Second}
	for {
		err := w.attemptSandbox(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.k.events.Eventf(w.pod, corev1.EventTypeWarning, "FailedCreatePodSandBox",
			"Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox %q: %v", w.sandbox.id, err)
		timer := time.NewTimer(backoff.Step())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (w *podWorker) attemptSandbox(ctx context.Context) error {
	id := make([]byte, 32)
	_, _ = rand.Read(id) // never fails
	path := filepath.Join(NetNSDir, string(w.uid))
	if err := netns.Create(path); err != nil {
		return err
	}
	w.sandbox = sandbox{id: hex.EncodeToString(id), netns: path, pod: w.pod}
	ip, err := w.k.network.add(ctx, w.sandbox)
	if err != nil {
		return errors.Join(err, netns.Delete(path))
	}
	w.ip = ip
	return nil
}

// finish takes the pod down and tells the API server that it is gone.
func (w *podWorker) finish(ctx context.Context, pod *corev1.Pod) {
	w.endContainers(ctx, pod)
	if w.sandbox.netns != "" {
		err := poll(ctx, time.Second, func(ctx context.Context) error {
			err := w.k.network.remove(ctx, w.sandbox)
			if err != nil {
				w.k.events.Eventf(w.pod, corev1.EventTypeWarning, "FailedKillPod", "error killing pod: failed to destroy network for sandbox %q: %v", w.sandbox.id, err)
			}
			return err
		})
		if err = errors.Join(err, netns.Delete(w.sandbox.netns)); err != nil {
			w.k.opts.Log.Warn("taking down a pod's network", "pod", w.pod.Namespace+"/"+w.pod.Name, "error", err)
		}
	}
	w.k.unmountVolumes(w.pod)
	_ = poll(ctx, statusRetry, func(ctx context.Context) error {
		err := w.k.client.CoreV1().Pods(w.pod.Namespace).Delete(ctx, w.pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &w.uid},
		})
		return w.unlessGone(ctx, err, "deleting a pod")
	})
}

// unlessGone logs and returns the error of a write, unless it says that there is no such pod any more.
func (w *podWorker) unlessGone(ctx context.Context, err error, what string) error {
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if ctx.Err() == nil {
		w.k.opts.Log.Warn(what+"; it is tried again", "pod", w.pod.Namespace+"/"+w.pod.Name, "error", err)
	}
	return err
}

func (w *podWorker) runningStatus() corev1.PodStatus {
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: w.reported.StartTime, HostIP: w.k.machine.IP.String(),
		HostIPs: []corev1.HostIP{{IP: w.k.machine.IP.String()}},
		PodIP:   w.ip.String(), PodIPs: []corev1.PodIP{{IP: w.ip.String()}},
	}
	if status.StartTime == nil {
		status.StartTime = now()
	}
	allReady := true
	for _, c := range w.containers {
		s := c.containerStatus()
		allReady = allReady && s.Ready
		status.ContainerStatuses = append(status.ContainerStatuses, s)
	}
	status.Phase = phaseOf(w.pod.Spec.RestartPolicy, status.ContainerStatuses)
	ready := corev1.ConditionTrue
	if !allReady {
		ready = corev1.ConditionFalse
	}
	status.Conditions = w.conditions(map[corev1.PodConditionType]corev1.ConditionStatus{
		corev1.PodInitialized: corev1.ConditionTrue, corev1.PodReadyToStartContainers: corev1.ConditionTrue,
		corev1.ContainersReady: ready, corev1.PodReady: ready, corev1.PodScheduled: corev1.ConditionTrue,
	})
	return status
}

// isReady by its condition, which others write too: while a node is not Ready, the node lifecycle controller takes it from its pods, and
// the kubelet gives it back.
func isReady(status corev1.PodStatus) bool {
	return slices.ContainsFunc(status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// phaseOf a pod: Running until all its containers have ended for good.
func phaseOf(policy corev1.RestartPolicy, containers []corev1.ContainerStatus) corev1.PodPhase {
	if policy == corev1.RestartPolicyAlways {
		return corev1.PodRunning
	}
	phase := corev1.PodSucceeded
	for _, c := range containers {
		switch {
		case c.State.Terminated == nil || (c.State.Terminated.ExitCode != 0 && policy == corev1.RestartPolicyOnFailure):
			return corev1.PodRunning
		case c.State.Terminated.ExitCode != 0:
			phase = corev1.PodFailed
		}
	}
	return phase
}

// conditions in a fixed order, with the times of transition of those that did not change.
func (w *podWorker) conditions(wanted map[corev1.PodConditionType]corev1.ConditionStatus) []corev1.PodCondition {
	var conditions []corev1.PodCondition
	for _, t := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		condition := corev1.PodCondition{Type: t, Status: wanted[t], LastTransitionTime: metav1.Now()}
		for _, old := range w.reported.Conditions {
			if old.Type == t && old.Status == condition.Status {
				condition = old
			}
		}
		conditions = append(conditions, condition)
	}
	for _, old := range w.reported.Conditions {
		if _, own := wanted[old.Type]; !own {
			conditions = append(conditions, old) // of another writer, such as DisruptionTarget
		}
	}
	return conditions
}

// report writes what changed of the pod's status: other writers own the rest, and the pod's labels.
func (w *podWorker) report(ctx context.Context, status corev1.PodStatus) error {
	status.QOSClass = w.reported.QOSClass
	patch, err := statusPatch(w.uid, w.reported, status)
	if err != nil {
		return w.unlessGone(ctx, err, "computing a pod's status")
	}
	updated, err := w.k.client.CoreV1().Pods(w.pod.Namespace).Patch(ctx, w.pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err == nil {
		w.reported = updated.Status
	}
	return w.unlessGone(ctx, err, "writing a pod's status")
}

// statusPatch applies to the pod with this UID only, not to one that has its name by now.
func statusPatch(uid types.UID, before, after corev1.PodStatus) ([]byte, error) {
	old, err := json.Marshal(corev1.Pod{Status: before})
	if err != nil {
		return nil, err
	}
	wanted, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Status: after})
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(old, wanted, corev1.Pod{})
}

func now() *metav1.Time {
	t := metav1.Now()
	return &t
}
