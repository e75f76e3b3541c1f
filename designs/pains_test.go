// SPDX-License-Identifier: Apache-2.0

package designs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// named is a test as the page writes it: `pkg/cni.TestAdd` or `pkg/cni.TestAdd/a case`.
var named = regexp.MustCompile("`((?:pkg|test|cmd)/[a-z0-9/]+)\\.((?:Test|Fuzz)\\w+)(?:/([^`]+))?`")

func TestEveryPainHasATestThatExistsOrAReason(t *testing.T) {
	page, err := os.ReadFile("pains.md")
	require.NoError(t, err)
	rows, sources := 0, map[string]string{}
	for _, line := range strings.Split(string(page), "\n") {
		cells := strings.Split(line, "|")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| ---") || strings.HasSuffix(line, "| tests |") {
			continue
		}
		rows++
		tests := named.FindAllStringSubmatch(line, -1)
		require.Len(t, tests, strings.Count(cells[len(cells)-2], "`")/2, "each of the last column is a test: %s", line)
		if len(tests) == 0 {
			require.Regexp(t, `does not apply: `, line)
		}
		for _, found := range tests {
			directory, function, name := found[1], found[2], found[3]
			if _, read := sources[directory]; !read {
				sources[directory] = source(t, directory)
			}
			require.True(t, strings.Contains(sources[directory], "func "+function+"("), "%s has no such test: %s", directory, line)
			if name != "" {
				require.True(t, strings.Contains(sources[directory], `"`+name+`"`), "%s.%s has no such case: %s", directory, function, line)
			}
		}
	}
	require.Equal(t, 28+10, rows, "pains and defects of v1.23.1")
}

// source of a package's tests.
func source(t *testing.T, directory string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", directory, "*_test.go"))
	require.NoError(t, err)
	var all strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		all.Write(content)
	}
	return all.String()
}
