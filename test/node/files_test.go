// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	folder = fs.ModeDir | 0o700
	file   = fs.FileMode(0o600)
	socket = fs.ModeSocket | 0o600
	link   = fs.ModeSymlink | 0o777 // of which the kernel looks at no mode
)

// checkFiles of an agent and of plugins that have run: all are named here, root's, and nobody else's to read. The conflist too: the
// runtime that reads it is root (CIS Kubernetes benchmark, 1.1.9).
func (i *instance) checkFiles(t *testing.T) {
	t.Helper()
	require.Equal(t, map[string]fs.FileMode{
		"": folder, "leases": folder, "leases/ADDRESS": file, "cooling": folder, "cooling/ADDRESS": file, "owners": folder, "owners/OWNER": link, "new": folder,
		"pool.json": file, "datapath.json": file, "lock": file, "agent.sock": socket, "report.sock": socket,
	}, modes(t, i.stateDir))
	require.Equal(t, file, modes(t, i.confDir)["10-dovetail.conflist"])
}

// modes of all in a folder, by name; of leases, one name for all that have the same mode.
func modes(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	found := map[string]fs.FileMode{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		stat, is := info.Sys().(*syscall.Stat_t)
		require.True(t, is)
		require.Zero(t, stat.Uid, path)
		name := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		for parent, one := range map[string]string{"leases": "ADDRESS", "cooling": "ADDRESS", "owners": "OWNER"} {
			if filepath.Dir(name) == parent {
				name = parent + "/" + one
			}
		}
		before, seen := found[name]
		require.True(t, !seen || before == info.Mode(), "%s is %s, and others are %s", path, info.Mode(), before)
		found[name] = info.Mode()
		return nil
	}))
	return found
}
