// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

// Command to run in a container of the cluster.
type Command struct {
	Namespace, Pod, Container string
	// Args are the program and its arguments. No shell reads them.
	Args []string
}

// ExitError is a command that ran, and ended with another code than 0.
type ExitError struct {
	Code int
	// Stderr is what it had to say.
	Stderr string
}

func (e *ExitError) Error() string { return fmt.Sprintf("it ended with %d: %s", e.Code, e.Stderr) }

// Exec runs a command as kubectl exec does, and returns what it prints.
func (c *Cluster) Exec(ctx context.Context, command Command) ([]byte, error) {
	config, err := c.flags.ToRESTConfig()
	if err != nil {
		return nil, Explain(err)
	}
	return Exec(ctx, config, command)
}

// Exec runs a command as kubectl exec does, and returns what it prints. A command that fails is an ExitError.
func Exec(ctx context.Context, config *rest.Config, command Command) ([]byte, error) {
	executor, err := newExecutor(config, command)
	if err != nil {
		return nil, Explain(err)
	}
	var stdout, stderr bytes.Buffer
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr})
	var exit exec.CodeExitError
	switch {
	case errors.As(err, &exit):
		return nil, &ExitError{Code: exit.Code, Stderr: strings.TrimSpace(stderr.String())}
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("these credentials may not run commands in pods of namespace %s: they need the right to create pods/exec there: %w", command.Namespace, err)
	case err != nil:
		return nil, fmt.Errorf("running %s in pod %s/%s: %w", command.Args[0], command.Namespace, command.Pod, Explain(err))
	}
	return stdout.Bytes(), nil
}

// newExecutor talks WebSocket, and SPDY where the API server or a proxy before it knows no other.
func newExecutor(config *rest.Config, command Command) (remotecommand.Executor, error) {
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	url := clients.CoreV1().RESTClient().Post().Resource("pods").Namespace(command.Namespace).Name(command.Pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: command.Container, Command: command.Args, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	webSocket, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, url.String())
	if err != nil {
		return nil, err
	}
	spdy, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, url)
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(webSocket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}
