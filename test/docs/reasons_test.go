// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Reasons as the code writes them: constants, and those that stand in the place of their use.
var reason = regexp.MustCompile(`(?:[Rr]eason\w*|Drift\w+)(?: +[\w.]*Reason)? *= *"([A-Z]\w+)"|\bReason: *"([A-Z]\w+)"`)

// Whoever sees a reason finds it on the page of symptoms, or on that of the agent or of the plan, which have their own.
func TestEachReasonIsOnAPage(t *testing.T) {
	for _, part := range []struct {
		page    string
		folders []string
		least   int
	}{
		{"docs/troubleshooting.md", []string{"pkg/controllers", "pkg/apis", "pkg/podnetwork", "pkg/provision", "pkg/launch", "pkg/cloudprovider"}, 60},
		{"docs/agent.md", []string{"pkg/agent"}, 15},
		{"docs/plan.md", []string{"pkg/plan"}, 25},
	} {
		page, err := os.ReadFile(filepath.Join(root, part.page))
		require.NoError(t, err)
		found := 0
		for _, folder := range part.folders {
			require.NoError(t, filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
				if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
					return err
				}
				source, err := os.ReadFile(path)
				for _, match := range reason.FindAllStringSubmatch(string(source), -1) {
					found++
					name := match[1] + match[2]
					assert.True(t, strings.Contains(string(page), "`"+name+"`"), "%s has no entry for %s, a reason of %s", part.page, name, path)
				}
				return err
			}))
		}
		require.GreaterOrEqual(t, found, part.least, part.page)
	}
}
