// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dovetail-dev/dovetail/pkg/agent/status"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

// askTimeout is shorter than the plugin's, so that it hears a reason instead of nothing.
const askTimeout = 25 * time.Second

// socketMode lets root connect, should the state directory ever be open to others.
const socketMode = 0o600

// serveHealth answers the kubelet's probes from the start: an agent that waits for IMDS or for the API server is alive, and not ready.
func (a *Agent) serveHealth(ctx context.Context) error {
	listener, err := net.Listen("tcp", a.opts.HealthAddress)
	if err != nil {
		return fmt.Errorf("--health-address: %w", err)
	}
	a.health = listener.Addr()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("GET "+readyPath, a.askSocket)
	a.serveOn(ctx, listener, mux)
	return nil
}

// serve answers plugins on the socket, and metrics on their port.
func (a *Agent) serve(ctx context.Context) error {
	path := filepath.Join(a.opts.StateDir, cni.SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing the socket of an agent before: %w", err)
	}
	socket, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("socket for plugins: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return fmt.Errorf("socket for plugins: %w", err)
	}
	if err := a.listenForReports(ctx); err != nil {
		return err
	}
	metrics, err := net.Listen("tcp", a.opts.MetricsAddress)
	if err != nil {
		return fmt.Errorf("--metrics-address: %w", err)
	}
	plugins := http.NewServeMux()
	plugins.HandleFunc("POST "+cni.GrowPath, a.grow)
	plugins.HandleFunc("GET "+status.Path, a.status)
	plugins.HandleFunc("GET "+readyPath, a.ready)
	a.serveOn(ctx, socket, plugins)
	a.serveOn(ctx, metrics, promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}))
	return nil
}

func (a *Agent) serveOn(ctx context.Context, listener net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { server.Close() })
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("serving", "address", listener.Addr(), "error", err)
		}
	}()
}

// grow waits until there are free addresses, and answers 503 with the reason when there are none.
func (a *Agent) grow(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	start := time.Now()
	result, err := a.askFor(ctx)
	a.metrics.waited(result, time.Since(start))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// askFor waits for the loop's answer.
func (a *Agent) askFor(ctx context.Context) (waitResult, error) {
	asked := ask{answer: make(chan error, 1)}
	select {
	case a.asks <- asked:
	case <-ctx.Done():
		return waitTimeout, errors.New("the node agent is busy with EC2")
	}
	select {
	case err := <-asked.answer:
		if err != nil {
			return waitRefused, err
		}
		return waitServed, nil
	case <-ctx.Done():
		return waitTimeout, errors.New("the node agent is still waiting for EC2")
	}
}
