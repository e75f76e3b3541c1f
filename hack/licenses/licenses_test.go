// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

const mit = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`

const isc = `Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
`

func TestLicencesOfAModule(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		below []string
		want  []string
		fails string
	}{
		"in its directory":                  {files: map[string]string{"LICENSE": mit}, want: []string{"MIT"}},
		"of code of others, if compiled in": {files: map[string]string{"LICENSE": mit, "theirs/COPYING": isc}, below: []string{"theirs"}, want: []string{"ISC", "MIT"}},
		"not of code that is not":           {files: map[string]string{"LICENSE": mit, "theirs/COPYING": isc}, want: []string{"MIT"}},
		"not of files only called so":       {files: map[string]string{"license.go": mit}, fails: "no file with its licence"},
		"none":                              {files: map[string]string{"README.md": mit}, fails: "no file with its licence"},
		"unknown":                           {files: map[string]string{"LICENSE": "You may run this on Sundays."}, fails: "only 0 %"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &module{dir: t.TempDir(), below: map[string]bool{}}
			for file, content := range test.files {
				write(t, filepath.Join(m.dir, file), content)
			}
			for _, dir := range test.below {
				m.below[filepath.Join(m.dir, dir)] = true
			}
			got, err := m.licences()
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("got %v, %v; want an error with %q", got, err, test.fails)
				}
				return
			}
			if err != nil || !slices.Equal(got, test.want) {
				t.Fatalf("got %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What Apache-2.0, BSD and MIT ask for is asked of the plugin, the smallest program: it has modules of all three, and Go's library.
func TestNoticesHaveEachTextOnce(t *testing.T) {
	out := filepath.Join(t.TempDir(), "notices")
	if err := writeNotices("../..", "./cmd/cni", out); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	page := string(content)
	modules, err := publishedModules("../..", "./cmd/cni")
	if err != nil {
		t.Fatal(err)
	}
	if len(modules) < 5 || modules[standardLibrary] == nil {
		t.Fatalf("modules of the plugin: %v", modules)
	}
	for path, m := range modules {
		for _, want := range []string{"\n" + path + " " + m.version + "\n", "\n" + path + " " + m.version + ": LICENSE"} {
			if strings.Count(page, want) != 1 {
				t.Errorf("%q stands there %d times, not once", want, strings.Count(page, want))
			}
		}
	}
	texts := map[string]bool{}
	for _, part := range strings.Split(page, strings.Repeat("=", 80))[1:] {
		_, text, ok := strings.Cut(part, strings.Repeat("-", 80))
		if words := strings.Join(strings.Fields(text), " "); !ok || texts[words] {
			t.Errorf("a text without files, or twice:%.300s", part)
		} else {
			texts[words] = true
		}
	}
}

func TestAnSBOMHasWhatTheLinkerWroteIntoTheProgram(t *testing.T) {
	binary, out := filepath.Join(t.TempDir(), "cni"), filepath.Join(t.TempDir(), "cni.spdx.json")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "./cmd/cni")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	if err := writeSBOM("../..", "./cmd/cni", binary, "v1.2.3", out); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	document, err := spdxjson.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(document); err != nil {
		t.Fatal(err)
	}
	if document.DocumentName != "cni_v1.2.3_linux_arm64" || document.CreationInfo.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("%s of %s", document.DocumentName, document.CreationInfo.Created)
	}
	licences := map[string]string{}
	for _, p := range document.Packages {
		licences[p.PackageExternalReferences[0].Locator] = p.PackageLicenseDeclared
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(info.Deps) + 2; len(licences) != want || len(info.Deps) < 4 {
		t.Errorf("%d packages, not %d: the program, Go's library and the modules", len(licences), want)
	}
	for _, dep := range info.Deps {
		if purl := "pkg:golang/" + dep.Path + "@" + dep.Version; licences[purl] == "" {
			t.Errorf("no %s with a licence", purl)
		}
	}
	if purl := "pkg:golang/stdlib@" + strings.TrimPrefix(info.GoVersion, "go"); licences[purl] != "BSD-3-Clause" {
		t.Errorf("%s has the licence %q", purl, licences[purl])
	}
}
