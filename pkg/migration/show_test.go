// SPDX-License-Identifier: Apache-2.0

package migration_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/migration"
)

func TestPace(t *testing.T) {
	for name, test := range map[string]struct {
		done, left int32
		within     time.Duration
		want       migration.Pace
		says       string
	}{
		"nothing is done":    {0, 5, time.Minute, migration.Pace{Left: 5}, ""},
		"no time has passed": {1, 5, 0, migration.Pace{Left: 5}, ""},
		"four in a minute":   {4, 6, time.Minute, migration.Pace{NodesPerMinute: 4, Left: 6, LeftSeconds: 90}, "; 4.0 nodes a minute, about 90s left"},
		"one in an hour":     {1, 3, time.Hour, migration.Pace{NodesPerMinute: 0, Left: 3, LeftSeconds: 3 * 3600}, "; less than one node in 10 minutes, about 3h0m left"},
		"all":                {10, 0, 5 * time.Minute, migration.Pace{NodesPerMinute: 2}, "; 2.0 nodes a minute"},
	} {
		t.Run(name, func(t *testing.T) {
			pace := migration.PaceOf(test.done, test.left, test.within)
			require.Equal(t, test.want, pace)
			require.Equal(t, test.says, pace.String())
		})
	}
}

// progress of a migration with so many of four nodes done.
func progress(done int32) migration.Progress {
	return migration.Progress{Time: time.Unix(int64(done), 0).UTC(), NodeMigrations: []migration.Migration{{
		Name: "old", Phase: v1alpha1.MigrationProgressing, Nodes: v1alpha1.MigratedNodes{Total: 4, Done: done}, Pace: migration.PaceOf(done, 4-done, time.Minute),
	}}}
}

func TestATerminalIsDrawnOverAndNoLineIsTooLong(t *testing.T) {
	var out strings.Builder
	screen := migration.Screen{W: &out, Size: func() (int, int) { return 40, 24 }}
	require.NoError(t, screen.Show(progress(1)))
	first := out.String()
	require.NotContains(t, first, "\x1b")
	require.Equal(t, 2, strings.Count(first, "\n"))
	for line := range strings.Lines(first) {
		require.LessOrEqual(t, len([]rune(strings.TrimSpace(line))), 40)
	}
	out.Reset()
	require.NoError(t, screen.Show(progress(2)))
	require.True(t, strings.HasPrefix(out.String(), "\x1b[2A\x1b[J"), "up by the two lines, and clear")
	screen.Size = func() (int, int) { return 40, 2 }
	out.Reset()
	require.NoError(t, screen.Show(progress(3)))
	require.Equal(t, 1, strings.Count(out.String(), "\n"), "a line of a small terminal is the cursor's")
}

func TestALogHasALineForAChange(t *testing.T) {
	var out strings.Builder
	log := migration.Log{W: &out}
	for _, p := range []migration.Progress{progress(1), progress(1), progress(2)} {
		p.NodeMigrations[0].Pace.NodesPerMinute += float64(out.Len()) // time passes
		require.NoError(t, log.Show(p))
	}
	require.Equal(t, 2, strings.Count(out.String(), "\n"))
	require.True(t, strings.HasPrefix(out.String(), "00:00:01 NodeMigration old: Progressing; 1 of 4 nodes; 1.0 nodes a minute, about 3m left\n"), out.String())
}
