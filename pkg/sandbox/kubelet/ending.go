// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// EndOf a pod that is being deleted, where no program tells: what is in an image that nobody has ends when it is asked to, as
// the pause container does, but its preStop hook comes first, and the grace period is the longest that all may take.
func EndOf(pod *corev1.Pod) time.Time {
	grace := gracePeriod(pod)
	var hooks time.Duration
	for i := range pod.Spec.Containers {
		if hook := preStopHook(&pod.Spec.Containers[i]); hook != nil {
			hooks = max(hooks, hookDuration(hook))
		}
	}
	return pod.DeletionTimestamp.Add(min(hooks, grace) - grace) // the API server adds the grace period to the time of the request
}

func gracePeriod(pod *corev1.Pod) time.Duration {
	return time.Duration(ptr.Deref(pod.DeletionGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)) * time.Second
}

func preStopHook(c *corev1.Container) *corev1.LifecycleHandler {
	if c.Lifecycle == nil {
		return nil
	}
	return c.Lifecycle.PreStop
}

// hookDuration of a hook that sleeps, in the kubelet's words or a shell's. Of other commands nothing is known without their
// image.
func hookDuration(hook *corev1.LifecycleHandler) time.Duration {
	if hook.Sleep != nil {
		return time.Duration(hook.Sleep.Seconds) * time.Second
	}
	if hook.Exec == nil {
		return 0
	}
	words := strings.Fields(strings.Join(hook.Exec.Command, " "))
	if len(words) > 2 && strings.HasSuffix(words[0], "sh") && words[1] == "-c" {
		words = words[2:]
	}
	if len(words) != 2 || words[0] != "sleep" {
		return 0
	}
	seconds, err := strconv.Atoi(words[1])
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// endContainers within the pod's grace period. A later deletion can shorten it.
func (w *podWorker) endContainers(ctx context.Context, pod *corev1.Pod) {
	grace, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	deadline := time.Now().Add(gracePeriod(pod))
	timer := time.AfterFunc(gracePeriod(pod), kill)
	defer timer.Stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var all sync.WaitGroup
		for _, c := range w.containers {
			all.Go(func() { c.stop(grace) })
		}
		all.Wait()
	}()
	for shutdown := ctx.Done(); ; {
		select {
		case <-ended:
			return
		case later := <-w.updates:
			timer.Reset(min(time.Until(deadline), gracePeriod(later)))
		case <-shutdown:
			shutdown = nil
			timer.Reset(min(time.Until(deadline), shutdownGrace))
		}
	}
}

// stop runs the preStop hook, then ends the program, which is killed where that takes longer than the grace period.
func (c *container) stop(grace context.Context) {
	if c.cancel == nil {
		return
	}
	if hook := preStopHook(c.spec); hook != nil {
		if err := c.runHook(grace, hook); err != nil {
			c.w.k.events.Eventf(c.w.pod, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %v", err)
		}
	}
	c.end(grace)
}

func (c *container) runHook(ctx context.Context, hook *corev1.LifecycleHandler) error {
	process := c.running()
	switch {
	case hook.HTTPGet != nil:
		return c.probeHTTP(ctx, hook.HTTPGet)
	case hook.Exec != nil && process != nil:
		return probeExec(ctx, process, hook.Exec.Command)
	default:
		pause(ctx, hookDuration(hook))
		return nil
	}
}

// end asks the program to, and kills it after the grace period.
func (c *container) end(grace context.Context) {
	if c.cancel == nil {
		return
	}
	c.cancel() // SIGTERM
	select {
	case <-c.ended:
	case <-grace.Done():
		c.signal(syscall.SIGKILL)
		<-c.ended
	}
}
