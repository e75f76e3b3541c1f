// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// keptFile holds what the kernel should hold, for the agent that comes next: it repairs the data path from its start, also
// while EC2 and the API server are away. Like the rest of the state directory it ends with the node's boot.
const keptFile = "datapath.json"

// keptVersion is the format of the file that this code writes and reads.
const keptVersion = 1

type kept struct {
	Version int            `json:"version"`
	State   datapath.State `json:"state"`
}

// keep writes the file. It has to be there before addresses are published by which it grows: the next agent would take
// their rules away from pods that got them.
func (a *Agent) keep(state datapath.State) error {
	content, err := json.Marshal(kept{keptVersion, state})
	if err != nil {
		return err
	}
	path := filepath.Join(a.opts.StateDir, keptFile)
	if before, err := os.ReadFile(path); err == nil && string(before) == string(content) {
		return nil
	}
	if err := pool.WriteFileAtomically(path, content, 0o600); err != nil {
		return fmt.Errorf("keeping the state of the data path: %w", err)
	}
	return nil
}

// resume lets the keeper go on where the agent before was. What it cannot read it leaves to the first look at EC2.
func (a *Agent) resume() {
	content, err := os.ReadFile(filepath.Join(a.opts.StateDir, keptFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(content, &k)
	}
	if err == nil && k.Version != keptVersion {
		err = fmt.Errorf("format version %d is not %d: the agent before was of another release", k.Version, keptVersion)
	}
	if err != nil {
		a.log.Warn("the data path is repaired only once EC2 has answered", "file", keptFile, "error", err)
		return
	}
	if err := a.kernel.Apply(k.State); err != nil {
		a.log.Warn("repairing the data path as the agent before left it", "error", err)
	}
}
