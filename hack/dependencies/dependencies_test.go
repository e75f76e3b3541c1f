// SPDX-License-Identifier: Apache-2.0

// Package dependencies_test compares docs/dependencies.md with go.mod and with the code.
package dependencies_test

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// row of the page's table: module, reason, a package that uses it, licence.
var row = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\|$")

// direct are the modules that go.mod asks for directly.
func direct(t *testing.T) (modules []string) {
	t.Helper()
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	require.NoError(t, err)
	var file struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	require.NoError(t, json.Unmarshal(out, &file))
	for _, r := range file.Require {
		if !r.Indirect {
			modules = append(modules, r.Path)
		}
	}
	slices.Sort(modules)
	return modules
}

// imports of a package and its tests.
func imports(t *testing.T, folder string) (paths []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	require.NoError(t, err)
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			paths = append(paths, path)
		}
	}
	return paths
}

func TestThePageOfDependenciesIsWhatGoModAsksForDirectly(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	require.NoError(t, err)
	var documented []string
	for _, match := range row.FindAllStringSubmatch(string(page), -1) {
		module, folder := match[1], match[3]
		documented = append(documented, module)
		require.True(t, slices.ContainsFunc(imports(t, folder), func(path string) bool {
			return path == module || strings.HasPrefix(path, module+"/")
		}), "%s does not use %s: name a package that does, or drop the module", folder, module)
	}
	slices.Sort(documented)
	require.Equal(t, direct(t), documented, "docs/dependencies.md needs a row for each direct dependency of go.mod, and no other")
}
