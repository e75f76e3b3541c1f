// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/test/docs"
)

const root = "../.."

func blocks(t *testing.T) []docs.Block {
	t.Helper()
	all, err := docs.All(root)
	require.NoError(t, err)
	return all
}

// Each block of commands is read by a shell. What it calls is looked up where the program says what it takes: targets in the
// Makefile, flags by kubectl and Helm themselves, values in the chart's values.yaml, files in this repository. Calls of aws are parsed,
// and the files and template parameters that they name are looked up. Calls of dovetail are looked up in cmd/dovetail.
func TestCommandsOfThePagesExist(t *testing.T) {
	seen := map[string]int{}
	for _, block := range blocks(t) {
		script := block.Script()
		if script == "" {
			continue
		}
		calls, err := docs.Record(t.Context(), script, t.TempDir())
		if !assert.NoError(t, err, "%s:%d", block.Page, block.Line) {
			continue
		}
		for _, call := range calls {
			seen[call.Args[0]]++
			if _, ours := call.Dovetail(); ours {
				continue
			}
			switch call.Args[0] {
			case "make":
				checkMake(t, block, call)
			case "helm":
				checkHelm(t, block, call)
			case "kubectl":
				checkKubectl(t, block, call)
			case "aws":
				checkAWS(t, block, call)
			}
		}
	}
	t.Log(seen)
	for _, program := range []string{"make", "helm", "kubectl", "aws", "dovetail"} {
		require.Positive(t, seen[program], program)
	}
}

func checkMake(t *testing.T, block docs.Block, call docs.Call) {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	for _, target := range call.Args[1:] {
		if strings.Contains(target, "=") {
			continue
		}
		assert.Regexp(t, `(?m)^`+regexp.QuoteMeta(target)+`:`, string(makefile), "%s:%d: make %s", block.Page, block.Line, target)
	}
}

func checkHelm(t *testing.T, block docs.Block, call docs.Call) {
	t.Helper()
	checkByHelp(t, block, filepath.Join(root, "bin", "tools", "helm"), call)
	i := slices.IndexFunc(call.Args, func(arg string) bool { return strings.HasPrefix(arg, "charts/") })
	if i < 0 {
		return
	}
	content, err := os.ReadFile(filepath.Join(root, call.Args[i], "values.yaml"))
	if !assert.NoError(t, err, "%s:%d", block.Page, block.Line) {
		return
	}
	var values map[string]any
	require.NoError(t, yaml.Unmarshal(content, &values))
	for _, set := range after(call.Args, "--set") {
		key, _, _ := strings.Cut(set, "=")
		var at any = values
		for name := range strings.SplitSeq(key, ".") {
			object, ok := at.(map[string]any)
			if ok {
				at, ok = object[name]
			}
			if !assert.True(t, ok, "%s:%d: %s has no value %s", block.Page, block.Line, call.Args[i], key) {
				break
			}
		}
	}
}

func checkKubectl(t *testing.T, block docs.Block, call docs.Call) {
	t.Helper()
	checkByHelp(t, block, filepath.Join(root, "bin", "kubectl"), call)
	for _, file := range slices.Concat(after(call.Args, "-f"), after(call.Args, "--patch-file")) {
		if file != "-" {
			_, err := os.Stat(filepath.Join(root, file))
			assert.NoError(t, err, "%s:%d", block.Page, block.Line)
		}
	}
	checkManifests(t, block, call.Stdin)
	if slices.Contains(call.Args, "podnetwork") {
		for _, patch := range after(call.Args, "--patch") {
			assert.NoError(t, yaml.UnmarshalStrict([]byte(patch), &v1alpha1.PodNetwork{}), "%s:%d: %s", block.Page, block.Line, patch)
		}
	}
}

// checkByHelp asks a program for help about a command with all its flags: it knows them, or it fails.
func checkByHelp(t *testing.T, block docs.Block, program string, call docs.Call) {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Logf("%s:%d: %s is not looked up: there is no %s", block.Page, block.Line, call.Args[:2], program)
		return
	}
	args := slices.Clone(call.Args[1:])
	end := slices.Index(args, "--") // what stands behind it is another program's
	if end < 0 {
		end = len(args)
	}
	out, err := exec.CommandContext(t.Context(), program, slices.Insert(args[:end:end], end, "--help")...).CombinedOutput()
	assert.NoError(t, err, "%s:%d: %s\n%s", block.Page, block.Line, call.Args, out)
}

func checkAWS(t *testing.T, block docs.Block, call docs.Call) {
	t.Helper()
	for _, arg := range call.Args {
		if file, ok := strings.CutPrefix(arg, "file://"); ok && strings.Contains(file, "/") {
			assert.FileExists(t, filepath.Join(root, file), "%s:%d", block.Page, block.Line)
		}
	}
	for _, file := range after(call.Args, "--template-file") {
		template, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err, "%s:%d", block.Page, block.Line)
		for _, parameter := range after(call.Args, "--parameter-overrides") {
			name, _, _ := strings.Cut(parameter, "=")
			assert.Contains(t, string(template), "\n  "+name+":\n", "%s:%d", block.Page, block.Line)
		}
	}
}

// after are the arguments behind each flag of that name, or in it behind "=".
func after(args []string, flag string) (values []string) {
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			values = append(values, value)
		} else if arg == flag && i+1 < len(args) {
			values = append(values, args[i+1])
		}
	}
	return values
}

var documents = regexp.MustCompile(`(?m)^---$`)

// checkManifests reads objects of Dovetail's kinds strictly: an unknown field is an error.
func checkManifests(t *testing.T, block docs.Block, text string) (found int) {
	t.Helper()
	for _, document := range documents.Split(text, -1) {
		var meta struct{ APIVersion, Kind string }
		if yaml.Unmarshal([]byte(document), &meta) != nil || meta.APIVersion != v1alpha1.GroupVersion.String() {
			continue
		}
		found++
		kinds := map[string]any{"PodNetwork": &v1alpha1.PodNetwork{}, "NodeMigration": &v1alpha1.NodeMigration{}}
		object, known := kinds[meta.Kind]
		require.True(t, known, "%s:%d: kind %s", block.Page, block.Line, meta.Kind)
		assert.NoError(t, yaml.UnmarshalStrict([]byte(document), object), "%s:%d", block.Page, block.Line)
	}
	return found
}

func TestManifestsOfThePagesHaveNoUnknownField(t *testing.T) {
	found := 0
	for _, block := range blocks(t) {
		switch block.Language {
		case "yaml":
			found += checkManifests(t, block, block.Text)
		case "json":
			assert.True(t, json.Valid([]byte(block.Text)), "%s:%d", block.Page, block.Line)
		}
	}
	require.GreaterOrEqual(t, found, 3)
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```")
)

// A link to a file, and to a heading in a page, leads there.
func TestLinksOfThePagesLead(t *testing.T) {
	pages, err := docs.Pages(root)
	require.NoError(t, err)
	designs, err := filepath.Glob(filepath.Join(root, "designs", "*.md"))
	require.NoError(t, err)
	for _, design := range designs {
		pages = append(pages, strings.TrimPrefix(design, root+"/"))
	}
	found := 0
	for _, page := range pages {
		content, err := os.ReadFile(filepath.Join(root, page))
		require.NoError(t, err)
		for _, match := range link.FindAllStringSubmatch(fenced.ReplaceAllString(string(content), ""), -1) {
			target := match[1] + match[2]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			found++
			file, fragment, _ := strings.Cut(target, "#")
			path := filepath.Join(root, page)
			if file != "" {
				path = filepath.Join(root, filepath.Dir(page), file)
			}
			if _, err := os.Stat(path); !assert.NoError(t, err, "%s: %s", page, target) || fragment == "" {
				continue
			}
			other, err := os.ReadFile(path)
			require.NoError(t, err)
			var anchors []string
			for _, h := range heading.FindAllStringSubmatch(string(other), -1) {
				anchors = append(anchors, anchor(h[1]))
			}
			assert.Contains(t, anchors, fragment, "%s: %s", page, target)
		}
	}
	require.Greater(t, found, 100)
}

// anchor of a heading, as GitHub makes it.
func anchor(text string) string {
	text = strings.ToLower(strings.NewReplacer("`", "", "*", "").Replace(text))
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r == ' ':
			return '-'
		}
		return -1
	}, text)
}
