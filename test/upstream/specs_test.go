// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAContainerRunsExactlyItsSpecs(t *testing.T) {
	specs := []string{"Drift Budgets should allow (50%) [*]", "Drift Annotations"}
	matcher, err := regexp.Compile(exactly(specs))
	require.NoError(t, err)
	for _, text := range specs {
		assert.True(t, matcher.MatchString("Regression "+text), text)
		assert.False(t, matcher.MatchString("Regression "+text+" and more"), text)
		assert.False(t, matcher.MatchString("Regression Other "+text), text)
	}
}

func TestAListOfSkippedSpecsIsTrueOrAnError(t *testing.T) {
	for name, test := range map[string]struct{ list, err string }{
		"a spec and its reason":      {list: "- {spec: Chaos runs away, reason: it takes too long}"},
		"a spec that is not there":   {"- {spec: Chaos runs, reason: it takes too long}", `the suite has no "Chaos runs"`},
		"a spec without a reason":    {"- {spec: Chaos runs away}", "has no reason"},
		"something else than a list": {"- {pattern: Chaos}", "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "skipped.yaml")
			require.NoError(t, os.WriteFile(file, []byte(test.list), 0o600))
			specs := []spec{{container: "Chaos", text: "Chaos runs away"}, {container: "Drift", text: "Drift Labels"}}
			list, err := readSkipped(file)
			if err == nil {
				err = list.mark(specs)
			}
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "it takes too long", specs[0].skipped)
			require.Empty(t, specs[1].skipped)
		})
	}
}

func TestATableTellsWhatDidNotRunFromWhatWasNotAskedFor(t *testing.T) {
	var out strings.Builder
	failed := printTable(&out, []spec{
		{text: "passes", state: passed}, {text: "fails", state: "failed", failure: "drift_test.go:42: Expected"}, {text: "never ran"},
		{text: "listed", skipped: "takes too long"}, {text: "unwanted", skipped: "out of focus", asked: true},
	})
	require.Equal(t, 2, failed)
	require.Contains(t, out.String(), "drift_test.go:42")
	require.NotContains(t, out.String(), "unwanted")
	require.Contains(t, out.String(), "1 passed; 2 not passed; 1 skipped, with a reason; 1 not asked for; 5 in all")
}
