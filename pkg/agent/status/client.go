// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// answerLimit in bytes, of a node of 250 pods many times over.
const answerLimit = 16 << 20

// Get asks the agent that listens on the socket.
func Get(ctx context.Context, socket string) (Status, error) {
	var s Status
	response, err := Ask(ctx, socket, Path)
	if err != nil {
		return s, unreachable(socket, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err != nil {
		return s, fmt.Errorf("reading the agent's answer: %w", err)
	}
	switch {
	case response.StatusCode == http.StatusNotFound:
		return s, errors.New("the node agent is of a release that does not tell its status")
	case response.StatusCode != http.StatusOK:
		return s, fmt.Errorf("the node agent answered %s: %s", response.Status, strings.TrimSpace(string(content)))
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return s, fmt.Errorf("the node agent's answer is no status: %w", err)
	}
	return s, nil
}

// Ask for a path by the agent's socket. The body is the caller's to close.
func Ask(ctx context.Context, socket, path string) (*http.Response, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(request)
}

func unreachable(socket string, err error) error {
	const where = "run this on a node of a pod network, as root, or from anywhere with the node's name: kubectl dovetail node status NODE"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no node agent has run here, there is no %s: %s", socket, where)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("the node agent is not running, nobody listens on %s: see its pod on this node, and its logs", socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s is root's alone: %s", socket, where)
	default:
		return fmt.Errorf("asking the node agent: %w", err)
	}
}
