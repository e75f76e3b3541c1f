// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/apimachinery/pkg/util/remotecommand"
)

// streamsTimeout is how long a client may take to open the streams of an exec, as in the kubelet.
const streamsTimeout = 30 * time.Second

// containerKey names a container as the API server does.
type containerKey struct{ namespace, pod, container string }

func (c *container) key() containerKey {
	return containerKey{c.w.pod.Namespace, c.w.pod.Name, c.spec.Name}
}

// handleExec runs a command in a container and streams what it prints. There are no terminals.
func (k *Kubelet) handleExec(w http.ResponseWriter, r *http.Request) {
	query, key := r.URL.Query(), containerKey{r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")}
	found, ok := k.containers.Load(key)
	switch {
	case !ok:
		http.Error(w, fmt.Sprintf("container not found (%q)", key.container), http.StatusNotFound)
		return
	case len(query["command"]) == 0 || query.Get("tty") == "1":
		http.Error(w, "exec needs a command, and is simulated without a terminal only", http.StatusBadRequest)
		return
	}
	wanted := []string{corev1.StreamTypeError}
	for parameter, stream := range map[string]string{corev1.ExecStdinParam: corev1.StreamTypeStdin, corev1.ExecStdoutParam: corev1.StreamTypeStdout, corev1.ExecStderrParam: corev1.StreamTypeStderr} {
		if query.Get(parameter) == "1" || query.Get(parameter) == "true" {
			wanted = append(wanted, stream)
		}
	}
	if _, err := httpstream.Handshake(r, w, []string{remotecommand.StreamProtocolV4Name}); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	opened := make(chan httpstream.Stream, len(wanted))
	connection := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, _ <-chan struct{}) error {
		select {
		case opened <- stream:
			return nil
		default:
			return errors.New("more streams than were asked for")
		}
	})
	if connection == nil {
		return // it has been answered
	}
	defer func() { _ = connection.Close() }() // there is nobody to tell
	streams, err := await(connection, opened, wanted)
	if err != nil {
		k.opts.Log.Warn("exec", "container", key, "error", err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() { // a client that goes away ends its command
		select {
		case <-connection.CloseChan():
			cancel()
		case <-ctx.Done():
		}
	}()
	err = found.(*container).exec(ctx, query["command"], streams)
	if err := json.NewEncoder(streams[corev1.StreamTypeError]).Encode(execStatus(err)); err != nil && ctx.Err() == nil {
		k.opts.Log.Warn("exec", "container", key, "error", err)
	}
}

// await the streams that were asked for, by their types.
func await(connection httpstream.Connection, opened <-chan httpstream.Stream, wanted []string) (map[string]httpstream.Stream, error) {
	timeout := time.NewTimer(streamsTimeout)
	defer timeout.Stop()
	streams := map[string]httpstream.Stream{}
	for range wanted {
		select {
		case stream := <-opened:
			streams[stream.Headers().Get(corev1.StreamType)] = stream
		case <-connection.CloseChan():
			return nil, errors.New("the client went away before it had opened its streams")
		case <-timeout.C:
			return nil, fmt.Errorf("the client opened %d of %d streams", len(streams), len(wanted))
		}
	}
	for _, kind := range wanted {
		if streams[kind] == nil {
			return nil, fmt.Errorf("the client opened no stream %s", kind)
		}
	}
	return streams, nil
}

// exec runs a command in the container's namespaces and root.
func (c *container) exec(ctx context.Context, command []string, streams map[string]httpstream.Stream) error {
	process := c.running()
	if process == nil {
		return errNoProgram
	}
	env, err := c.environment()
	if err != nil {
		return err
	}
	cmd := enter(ctx, process, command)
	cmd.Env = env
	if stdin := streams[corev1.StreamTypeStdin]; stdin != nil {
		cmd.Stdin = stdin
	}
	if stdout := streams[corev1.StreamTypeStdout]; stdout != nil {
		cmd.Stdout = stdout
	}
	if stderr := streams[corev1.StreamTypeStderr]; stderr != nil {
		cmd.Stderr = stderr
	}
	cmd.WaitDelay = time.Second // a client may keep its standard input open
	return cmd.Run()
}

// enter is a command that runs in a container, whose process is given.
func enter(ctx context.Context, process *os.Process, command []string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(process.Pid), "--mount", "--net", "--root", "--"}, command...)...)
}

// execStatus is how the end of a command is told to a client.
func execStatus(err error) metav1.Status {
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return metav1.Status{Status: metav1.StatusSuccess}
	case errors.As(err, &exit):
		return metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason, Message: fmt.Sprintf("command terminated with non-zero exit code: %v", err),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(exit.ExitCode())}}},
		}
	}
	return metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError, Message: err.Error()}
}
