// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/dovetail-dev/dovetail/pkg/cni"
)

// reportLimit of a datagram in bytes.
const reportLimit = 512

// listenForReports hears of the plugin's calls. Plugins do not wait for it: the kernel drops what comes faster than it is
// read.
func (a *Agent) listenForReports(ctx context.Context) error {
	path := filepath.Join(a.opts.StateDir, cni.ReportSocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing the socket of an agent before: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		return fmt.Errorf("socket for plugins' reports: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return fmt.Errorf("socket for plugins' reports: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	go func() {
		datagram := make([]byte, reportLimit)
		for {
			n, err := conn.Read(datagram)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				a.log.Error("the plugin's calls are not measured any more", "error", err)
				return
			}
			if r, err := parseReport(datagram[:n]); err != nil {
				a.log.Warn("a report of the plugin", "error", err)
			} else {
				a.metrics.called(r)
			}
		}
	}()
	return nil
}

// parseReport takes only what makes no series without bound.
func parseReport(datagram []byte) (cni.Report, error) {
	var r cni.Report
	if err := json.Unmarshal(datagram, &r); err != nil {
		return r, err
	}
	if !slices.Contains([]string{cni.VerbAdd, cni.VerbDel, cni.VerbCheck, cni.VerbGC, cni.VerbStatus}, r.Verb) || r.Code > 1000 || r.Seconds < 0 {
		return r, fmt.Errorf("not understood: %.80q", datagram)
	}
	return r, nil
}
