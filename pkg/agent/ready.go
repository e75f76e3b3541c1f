// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/agent/status"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

const (
	// readyPath on the health port says whether this agent serves its node. It asks by the plugins' own door, where the path is the same.
	readyPath = "/readyz"
	// readyTimeout is shorter than the chart's probe waits.
	readyTimeout = 3 * time.Second
	// stalled is how long the loop may take for a step, waits for EC2 and its throttling included; plugins that ask for more are
	// refused long before.
	stalled = 2*time.Minute + period
)

// readiness is what the loop has done so far, for the probe. A rolling update goes on to the next node when the agent is ready, so it asks
// of a new release what can be wrong with it on all nodes: that it reads the cluster and EC2, makes the kernel right and publishes. That
// there are addresses it does not ask: one full subnet would end the update of all nodes, and the node's condition tells of that.
type readiness struct {
	published atomic.Bool
	stepped   atomic.Pointer[time.Time] // the end of the last step
}

func (r *readiness) step() {
	now := time.Now()
	r.stepped.Store(&now)
}

// check returns why the agent does not serve its node.
func (r *readiness) check(now time.Time) error {
	last := r.stepped.Load()
	switch {
	case last == nil:
		return errors.New("the first look at the node has not ended")
	case !r.published.Load():
		return errors.New("no pool of addresses has been published since the start")
	case now.Sub(*last) > stalled:
		return fmt.Errorf("the last look at the node ended %s ago", now.Sub(*last).Round(time.Second))
	default:
		return nil
	}
}

// ready answers on the socket, with the reason why not.
func (a *Agent) ready(w http.ResponseWriter, _ *http.Request) {
	err := a.readiness.check(time.Now())
	if err == nil {
		_, _ = io.WriteString(w, "ok") // whoever asked may have gone
		return
	}
	message := err.Error()
	if v := a.view.Load(); v != nil {
		message += fmt.Sprintf(" (%s: %s)", v.condition.Reason, v.condition.Message)
	}
	http.Error(w, message, http.StatusServiceUnavailable)
}

// askSocket answers for the probe what the socket answers: one that was removed or taken over serves no plugin.
func (a *Agent) askSocket(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := askReady(ctx, filepath.Join(a.opts.StateDir, cni.SocketName)); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok") // whoever asked may have gone
}

func askReady(ctx context.Context, socket string) error {
	response, err := status.Ask(ctx, socket, readyPath)
	if err != nil {
		return fmt.Errorf("plugins reach nobody: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	reason, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10)) // what is there of it
	return fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(reason)))
}
