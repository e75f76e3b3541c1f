// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// probe asks again and again, and tells what it means as the kubelet would: good after successThreshold good answers, bad
// after failureThreshold bad ones. It tells at each answer from then on.
func (c *container) probe(ctx context.Context, probe *corev1.Probe, tell func(good bool, err error)) {
	if !pause(ctx, time.Duration(probe.InitialDelaySeconds)*time.Second) {
		return
	}
	good, bad := int32(0), int32(0)
	for {
		err := c.probeOnce(ctx, probe)
		switch {
		case errors.Is(err, errNoProgram): // between two runs: the next one is judged from its start
			good, bad = 0, 0
		case err == nil:
			good, bad = good+1, 0
		default:
			good, bad = 0, bad+1
		}
		switch {
		case ctx.Err() != nil:
			return
		case good >= max(probe.SuccessThreshold, 1):
			tell(true, nil)
		case bad >= max(probe.FailureThreshold, 1):
			tell(false, err)
			bad = 0 // a container that was restarted for it gets as many attempts again
		}
		if !pause(ctx, time.Duration(max(probe.PeriodSeconds, 1))*time.Second) {
			return
		}
	}
}

// setReady is told by the readiness probe.
func (c *container) setReady(good bool, _ error) {
	c.mu.Lock()
	before := c.ready
	c.ready = good
	c.mu.Unlock()
	if before != good {
		c.w.changed()
	}
}

// keepAlive is told by the liveness probe. A program that is ended for it starts again as after a crash; one that goes on
// is killed when the probe has failed as often again.
func (c *container) keepAlive(good bool, err error) {
	if good {
		return
	}
	c.w.k.events.Eventf(c.w.pod, corev1.EventTypeWarning, "Unhealthy", "Liveness probe failed: %v", err)
	c.mu.Lock()
	signal := syscall.SIGTERM
	if c.ending == c.process {
		signal = syscall.SIGKILL
	}
	c.ending = c.process
	c.mu.Unlock()
	c.signal(signal)
}

var errNoProgram = errors.New("no program runs in this container")

func (c *container) probeOnce(ctx context.Context, probe *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(probe.TimeoutSeconds, 1))*time.Second)
	defer cancel()
	process := c.running()
	switch {
	case c.program != "" && process == nil:
		return errNoProgram
	case probe.HTTPGet != nil:
		return c.probeHTTP(ctx, probe.HTTPGet)
	case probe.TCPSocket != nil:
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address(probe.TCPSocket.Host, probe.TCPSocket.Port.String()))
		if err != nil {
			return err
		}
		return conn.Close()
	case probe.Exec != nil:
		return probeExec(ctx, process, probe.Exec.Command)
	default:
		return errors.New("a probe of this kind is not simulated")
	}
}

func (c *container) probeHTTP(ctx context.Context, get *corev1.HTTPGetAction) error {
	scheme := strings.ToLower(string(get.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+c.address(get.Host, get.Port.String())+get.Path, nil)
	if err != nil {
		return err
	}
	for _, header := range get.HTTPHeaders {
		request.Header.Add(header.Name, header.Value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", response.StatusCode)
	}
	return nil
}

// probeExec runs a command in the container's root.
func probeExec(ctx context.Context, process *os.Process, command []string) error {
	if process == nil {
		return errors.New("an exec probe needs a program in the container")
	}
	output, err := enter(ctx, process, command).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(output)))
	}
	return nil
}

// address to probe: the pod's, unless the probe names another host.
func (c *container) address(host, port string) string {
	if host == "" {
		host = c.w.ip.String()
	}
	for _, p := range c.spec.Ports {
		if p.Name == port {
			port = strconv.Itoa(int(p.ContainerPort))
		}
	}
	return net.JoinHostPort(host, port)
}
