// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A series is there only when something was counted, so the names are taken from the source.
func TestThePageOfTheControllerHasEachMetric(t *testing.T) {
	content, err := os.ReadFile("../../docs/controller.md")
	require.NoError(t, err)
	inSource, onPage := regexp.MustCompile(`"(dovetail_[a-z_]+)"`), regexp.MustCompile("`(dovetail_[a-z_]+)`")
	metrics := map[string]bool{}
	for _, root := range []string{"../controllers", "../launch", "../cloudprovider", "../operator"} {
		require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, match := range inSource.FindAllStringSubmatch(string(source), -1) {
				metrics[match[1]] = true
			}
			return err
		}))
	}
	documented := map[string]bool{}
	for _, match := range onPage.FindAllStringSubmatch(string(content), -1) {
		documented[match[1]] = true
	}
	require.Equal(t, slices.Sorted(maps.Keys(metrics)), slices.Sorted(maps.Keys(documented)))
	require.NotEmpty(t, metrics)
}
