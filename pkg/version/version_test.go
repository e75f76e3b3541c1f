// SPDX-License-Identifier: Apache-2.0

package version

import (
	"bytes"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABuildIsNamedByTheLinkerElseByItsModuleElseUnknown(t *testing.T) {
	released := &debug.BuildInfo{
		Main:     debug.Module{Version: "v0.2.0"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123abc"}, {Key: "vcs.modified", Value: "true"}},
	}
	for name, test := range map[string]struct {
		linked string
		info   *debug.BuildInfo
		want   string
	}{
		"a release":               {linked: "v0.1.0", info: released, want: "v0.1.0 (commit 0123abc, modified, "},
		"go install":              {info: &debug.BuildInfo{Main: debug.Module{Version: "v0.2.0"}}, want: "v0.2.0 (commit unknown, "},
		"neither":                 {want: "unknown (commit unknown, "},
		"no module version":       {info: &debug.BuildInfo{}, want: "unknown (commit unknown, "},
		"linked without a module": {linked: "v0.1.0", want: "v0.1.0 (commit unknown, "},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, build(test.linked, test.info).String(), test.want)
		})
	}
}

func TestAProgramPrintsItsVersionWhenThatIsAllItWasAsked(t *testing.T) {
	var out bytes.Buffer
	for _, args := range [][]string{nil, {"status"}, {"--version", "more"}} {
		require.False(t, Asked(args, &out), args)
	}
	require.Empty(t, out.String())
	for _, args := range [][]string{{"version"}, {"--version"}} {
		out.Reset()
		require.True(t, Asked(args, &out), args)
		require.Equal(t, Get().String()+"\n", out.String())
	}
}
