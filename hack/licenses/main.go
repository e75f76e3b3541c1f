// SPDX-License-Identifier: Apache-2.0

// Licenses finds the licence of every module that is compiled into what a release publishes or is in docs/dependencies.md, and fails where one is not allowed,
// is not recognized, or is another than docs/dependencies.md says.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed are licences that let a program of Apache-2.0 be published with a notice and no more. MPL-2.0 asks for the source of its
// own files, which are unchanged and public.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "Unlicense", "CC0-1.0", "0BSD"}

// enough is the share of a file, in per cent, that a licence's text makes up in a licence file: the rest are names and notices.
const enough = 75

// programs that are published, and where they run.
var programs = map[string][]string{
	"./cmd/controller": {"linux"}, "./cmd/agent": {"linux"}, "./cmd/cni": {"linux"}, "./cmd/dovetail": {"linux", "darwin"},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: licenses ROOT")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(root string) error {
	directories, err := modules(root)
	if err != nil {
		return err
	}
	documented, err := page(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		return err
	}
	if err := add(root, directories, slices.Sorted(maps.Keys(documented))); err != nil {
		return err
	}
	var problems []error
	for _, module := range slices.Sorted(maps.Keys(directories)) {
		licences, err := scan(directories[module])
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", module, err))
			continue
		}
		found := strings.Join(licences, ", ")
		fmt.Printf("%-70s %s\n", module, found)
		for _, licence := range licences {
			if !slices.Contains(allowed, licence) {
				problems = append(problems, fmt.Errorf("%s: %s is not among the licences that are allowed", module, licence))
			}
		}
		if says, ok := documented[module]; ok && says != found {
			problems = append(problems, fmt.Errorf("%s: docs/dependencies.md says %s, it is %s", module, says, found))
		}
	}
	return errors.Join(problems...)
}

// modules that the programs are made of, and where their sources are.
func modules(root string) (map[string]string, error) {
	found := map[string]string{}
	for program, systems := range programs {
		for _, system := range systems {
			cmd := exec.Command("go", "list", "-deps", "-json=Module", program)
			cmd.Dir, cmd.Stderr, cmd.Env = root, os.Stderr, append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system)
			out, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("packages of %s: %w", program, err)
			}
			decoder := json.NewDecoder(strings.NewReader(string(out)))
			for {
				var p struct {
					Module *struct {
						Path, Dir string
						Main      bool
					}
				}
				if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return nil, err
				}
				if p.Module != nil && !p.Module.Main {
					found[p.Module.Path] = p.Module.Dir
				}
			}
		}
	}
	return found, nil
}

// add the modules of the page that no program is made of: those of tests.
func add(root string, directories map[string]string, modules []string) error {
	modules = slices.DeleteFunc(modules, func(module string) bool { return directories[module] != "" })
	if len(modules) == 0 {
		return nil
	}
	cmd := exec.Command("go", append([]string{"list", "-m", "-f", "{{.Path}} {{.Dir}}"}, modules...)...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("modules of docs/dependencies.md: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		module, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		directories[module] = dir
	}
	return nil
}

var (
	licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([.-].*)?$`)
	// notText are files that are only called so, and licences of documentation.
	notText = regexp.MustCompile(`\.(go|json|tmpl|yaml|yml|docs)$`)
)

// scan returns the licences of the files in a module's directory.
func scan(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, entry := range entries {
		if entry.IsDir() || !licenceFile.MatchString(entry.Name()) || notText.MatchString(entry.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		coverage := licensecheck.Scan(text)
		if coverage.Percent < enough {
			return nil, fmt.Errorf("%s: only %.0f %% of it are a licence that is known", entry.Name(), coverage.Percent)
		}
		for _, match := range coverage.Match {
			if !match.IsURL {
				found[match.ID] = true
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("it has no file with its licence")
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// row of the page's table of direct dependencies: module, reason, where, licence.
var row = regexp.MustCompile("^\\| `([^`]+)` \\|.*\\| ([^|]+) \\|$")

func page(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	says := map[string]string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if match := row.FindStringSubmatch(lines.Text()); match != nil {
			says[match[1]] = match[2]
		}
	}
	return says, lines.Err()
}
