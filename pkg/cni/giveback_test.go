// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/gofrs/flock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

// The agent gives a prefix back so: it takes the prefix from pool.json, looks at the leases, and lets go when none is of the
// prefix. A plugin that starts a pod meanwhile must not have read the one and be late with the other.

// TestAnAddressThatTheNodeGivesBackIsNotTaken takes the prefix from the pool while the plugin waits for the agent's look to end.
func TestAnAddressThatTheNodeGivesBackIsNotTaken(t *testing.T) {
	dir := node(t, "100.64.0.16/28")
	before, err := os.ReadFile(filepath.Join(dir, "pool.json"))
	require.NoError(t, err)
	lock := flock.New(filepath.Join(dir, "lock"))
	require.NoError(t, lock.Lock())
	added := start(t, call(t, dir))
	awaitWaiter(t, dir)
	after := strings.ReplaceAll(string(before), "100.64.0.16/28", "100.64.0.64/28")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pool.json"), []byte(after), 0o600))
	require.NoError(t, lock.Close())
	require.Equal(t, "100.64.0.64/32", <-added)
}

// TestALookAtTheLeasesWaitsForAPluginThatHasReadThePool stops the plugin in its read of the pool, which is a pipe here.
func TestALookAtTheLeasesWaitsForAPluginThatHasReadThePool(t *testing.T) {
	dir := node(t, "100.64.0.16/28")
	content, err := os.ReadFile(filepath.Join(dir, "pool.json"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "pool.json")))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pool.json"), 0o600))
	added := start(t, call(t, dir))
	pipe, err := os.OpenFile(filepath.Join(dir, "pool.json"), os.O_WRONLY, 0) // waits for the plugin
	require.NoError(t, err)

	seen := make(chan []lease.Lease)
	go func() {
		store, err := lease.Open(dir)
		assert.NoError(t, err)
		leases, err := store.List()
		assert.NoError(t, err)
		seen <- leases
	}()
	awaitWaiter(t, dir)
	_, err = pipe.Write(content)
	require.NoError(t, err)
	require.NoError(t, pipe.Close())
	leases := <-seen
	require.Len(t, leases, 1, "the agent sees the lease and keeps the prefix")
	require.Equal(t, "100.64.0.16", leases[0].Address.String())
	require.Equal(t, "100.64.0.16/32", <-added)
}

// start adds a pod for as long as the test runs, and gives its address.
func start(t *testing.T, args *skel.CmdArgs) <-chan string {
	t.Cleanup(func() { require.NoError(t, cni.Del(args)) })
	added := make(chan string, 1)
	go func() {
		address := ""
		if result, err := add(t, args); assert.NoError(t, err) {
			address = result["ips"].([]any)[0].(map[string]any)["address"].(string)
		}
		added <- address
	}()
	return added
}

// awaitWaiter waits until somebody waits for the lock of the leases, as the kernel says.
func awaitWaiter(t *testing.T, dir string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var lock unix.Stat_t
		if unix.Stat(filepath.Join(dir, "lock"), &lock) != nil {
			return false
		}
		locks, err := os.ReadFile("/proc/locks")
		require.NoError(t, err)
		for line := range strings.Lines(string(locks)) {
			if strings.Contains(line, "-> FLOCK") && strings.Contains(line, fmt.Sprintf(":%d ", lock.Ino)) {
				return true
			}
		}
		return false
	}, time.Minute, time.Millisecond)
}
