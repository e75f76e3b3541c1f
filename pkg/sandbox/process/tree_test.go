// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestATreeOfProcessesStandsStillAndGoesOn(t *testing.T) {
	// It makes and ends processes all the time.
	cmd := exec.Command("sh", "-c", "while :; do (sh -c 'true'; true); done & while :; do (sh -c 'true'; true); done")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, PauseTree(cmd.Process.Pid)) // so that none is left
		tree, err := treeOf(cmd.Process.Pid)
		require.NoError(t, err)
		for _, m := range tree {
			_ = unix.Kill(m.pid, unix.SIGKILL) // it may have ended
		}
		_ = cmd.Wait() // it was killed
	})
	for range 20 {
		require.NoError(t, PauseTree(cmd.Process.Pid))
		tree, err := treeOf(cmd.Process.Pid)
		require.NoError(t, err)
		for _, m := range tree {
			require.True(t, m.still(), "%+v", m)
		}
		require.NoError(t, ResumeTree(cmd.Process.Pid))
		require.Eventually(t, func() bool {
			tree, err := treeOf(cmd.Process.Pid)
			return err == nil && !tree[0].still()
		}, time.Minute, time.Millisecond)
	}
}

func TestAStatFileIsReadWhateverTheNameOfItsProcessIs(t *testing.T) {
	for content, want := range map[string]member{
		"12 (sh) S 3 12 12":          {pid: 12, parent: 3, state: "S"},
		"12 (a) R 9 (b) T 4 12 12 0": {pid: 12, parent: 4, state: "T"},
	} {
		got, ok := parseStat(content)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	_, ok := parseStat("12 (sh")
	require.False(t, ok)
}
