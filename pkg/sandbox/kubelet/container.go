// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// container runs one container of a pod. Without a program it only counts as running.
type container struct {
	w       *podWorker
	spec    *corev1.Container
	program string // "" for an image that nothing is known of
	volumes map[string]string

	mu       sync.Mutex
	state    corev1.ContainerState
	last     corev1.ContainerState
	restarts int32
	ready    bool
	process  *os.Process
	ending   *os.Process // was asked to end by the liveness probe
	ended    chan struct{}
	cancel   context.CancelFunc
}

func (w *podWorker) newContainer(spec *corev1.Container, volumes map[string]string) *container {
	repository, _, _ := strings.Cut(path.Base(spec.Image), ":")
	return &container{w: w, spec: spec, program: w.k.opts.Programs[repository], volumes: volumes, ended: make(chan struct{})}
}

// runToCompletion serves init containers: it starts the program until it ends well.
func (c *container) runToCompletion(ctx context.Context) error {
	if c.program == "" {
		return nil
	}
	backoff := restartBackoff()
	for {
		err := c.runOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		c.w.k.events.Eventf(c.w.pod, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s: %v", c.spec.Name, err)
		if !pause(ctx, backoff.Step()) {
			return ctx.Err()
		}
	}
}

// start runs the container in the background and starts it again, as its pod's restart policy says, when its program
// ends.
func (c *container) start(ctx context.Context) {
	ctx, c.cancel = context.WithCancel(ctx)
	c.w.k.containers.Store(c.key(), c)
	if c.program == "" {
		c.setState(corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}})
		close(c.ended)
	} else {
		go func() {
			defer close(c.ended)
			c.keepRunning(ctx)
		}()
	}
	if c.spec.ReadinessProbe != nil {
		go c.probe(ctx, c.spec.ReadinessProbe, c.setReady)
	}
	if c.spec.LivenessProbe != nil && c.program != "" {
		go c.probe(ctx, c.spec.LivenessProbe, c.keepAlive)
	}
}

func (c *container) keepRunning(ctx context.Context) {
	backoff := restartBackoff()
	for ctx.Err() == nil {
		started := time.Now()
		err := c.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > 10*time.Minute { // the kubelet forgets crashes that long ago
			backoff = restartBackoff()
		}
		if policy := c.w.pod.Spec.RestartPolicy; policy == corev1.RestartPolicyNever || (policy == corev1.RestartPolicyOnFailure && err == nil) {
			return
		}
		reason := "the program ended"
		if err != nil {
			reason = err.Error()
		}
		c.w.k.events.Eventf(c.w.pod, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s: %s", c.spec.Name, reason)
		delay := backoff.Step()
		c.mu.Lock()
		c.last = c.state
		c.restarts++
		c.mu.Unlock()
		c.setState(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: reason}})
		if !pause(ctx, delay) {
			return
		}
	}
}

// restartBackoff is the kubelet's with a shorter start: the first restart is immediate there.
func restartBackoff() *wait.Backoff {
	return &wait.Backoff{Duration: time.Second, Factor: 2, Steps: 20, Cap: 5 * time.Minute}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// runOnce runs the program to its end.
func (c *container) runOnce(ctx context.Context) error {
	env, err := c.environment()
	if err != nil {
		return err
	}
	spec, err := json.Marshal(ContainerSpec{
		Program: c.program, Args: append(append([]string{}, skip(c.spec.Command, 1)...), c.spec.Args...), Env: env, Mounts: c.mounts(), NetNS: c.w.sandbox.netns,
	})
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(c.w.k.opts.LogDir, c.w.pod.Name+"."+c.spec.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	executed, executing, err := os.Pipe()
	if err != nil {
		return err
	}
	defer executed.Close()
	defer executing.Close()
	cmd := exec.Command(c.w.k.opts.ContainerInit[0], c.w.k.opts.ContainerInit[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(string(spec)), log, log
	cmd.ExtraFiles = []*os.File{executing}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig follows the thread that forked
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			result <- err
			return
		}
		c.mu.Lock()
		c.process = cmd.Process
		c.mu.Unlock()
		defer context.AfterFunc(ctx, func() { c.signal(syscall.SIGTERM) })()
		executing.Close()
		_, _ = executed.Read(make([]byte, 1)) // ends when the program begins, or what prepares its container fails
		c.setState(corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}})
		result <- cmd.Wait()
	}()
	err = <-result
	code, outcome := int32(0), "Completed"
	if err != nil {
		outcome = "Error"
	}
	if cmd.ProcessState != nil {
		code = int32(cmd.ProcessState.ExitCode()) //nolint:gosec // -1 to 255
	}
	c.mu.Lock()
	c.process = nil
	c.ready = false
	c.mu.Unlock()
	c.setState(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: outcome, FinishedAt: metav1.Now()}})
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(c.program), err)
	}
	return nil
}

func skip(list []string, n int) []string { return list[min(n, len(list)):] }

// running is the program's process, if it has begun.
func (c *container) running() *os.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Running == nil {
		return nil
	}
	return c.process
}

func (c *container) signal(s os.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		_ = c.process.Signal(s) // it may have ended just now
	}
}

func (c *container) setState(state corev1.ContainerState) {
	c.mu.Lock()
	c.state = state
	if c.spec.ReadinessProbe == nil {
		c.ready = state.Running != nil
	}
	c.mu.Unlock()
	c.w.changed()
}

// changed wakes the pod's worker.
func (w *podWorker) changed() {
	select {
	case w.status <- struct{}{}:
	default:
	}
}

func (c *container) containerStatus() corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	started := c.state.Running != nil
	return corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, ImageID: c.spec.Image, State: c.state, LastTerminationState: c.last,
		Ready: c.ready && started, Started: &started, RestartCount: c.restarts,
		ContainerID: "dovetail://" + string(c.w.uid) + "/" + c.spec.Name,
	}
}
