// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// platform as Go names it.
type platform struct{ system, arch string }

// standardLibrary is Go's own code, which is in every program. Package URLs call it so.
const standardLibrary = "stdlib"

// module that is compiled in.
type module struct {
	path, version string
	dir           string
	// below are the directories between dir and the packages that are compiled in.
	below map[string]bool
}

// publishedModules are those that the programs are made of, on all their platforms, by path.
func publishedModules(root string, names ...string) (map[string]*module, error) {
	found := map[string]*module{}
	for _, program := range names {
		platforms, ok := programs[program]
		if !ok {
			return nil, fmt.Errorf("%s is not among the programs that are published", program)
		}
		for _, p := range platforms {
			if err := addModules(found, root, program, p); err != nil {
				return nil, fmt.Errorf("packages of %s for %s/%s: %w", program, p.system, p.arch, err)
			}
		}
	}
	return found, nil
}

// listed is what `go list` tells of a module.
type listed struct {
	Path, Version, Dir string
	Main               bool
	Replace            *listed
}

// source is how to get a module's source, from whatever proxy or repository one takes modules of.
func source(path, version string) string {
	if path == standardLibrary {
		return "https://go.dev/dl/go" + version + ".src.tar.gz"
	}
	return "go mod download " + path + "@" + version
}

func addModules(found map[string]*module, root, program string, on platform) error {
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,Standard,Module", program)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+on.system, "GOARCH="+on.arch)
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p struct {
			Dir      string
			Standard bool
			Module   *listed
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		switch {
		case p.Standard && found[standardLibrary] == nil:
			if found[standardLibrary], err = goItself(root); err != nil {
				return err
			}
		case p.Module != nil && !p.Module.Main:
			found[p.Module.Path] = p.Module.with(found[p.Module.Path], p.Dir)
		}
	}
}

// with returns the module, to which a package in a directory is added.
func (l *listed) with(m *module, packageDir string) *module {
	if m == nil {
		m = &module{path: l.Path, version: l.Version, dir: l.Dir, below: map[string]bool{}}
		if l.Replace != nil {
			m.version = l.Replace.Version
		}
	}
	for dir := packageDir; len(dir) > len(m.dir); dir = filepath.Dir(dir) {
		m.below[dir] = true
	}
	return m
}

func goItself(root string) (*module, error) {
	cmd := exec.Command("go", "env", "GOVERSION", "GOROOT")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	version, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return &module{path: standardLibrary, version: strings.TrimPrefix(version, "go"), dir: dir}, nil
}

// addUnpublished adds those of the paths that no program is made of: modules of tests.
func addUnpublished(root string, found map[string]*module, paths []string) error {
	args := []string{"list", "-m", "-f", "{{.Path}} {{.Dir}}"}
	none := len(args)
	for _, path := range paths {
		if found[path] == nil {
			args = append(args, path)
		}
	}
	if len(args) == none {
		return nil
	}
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("modules of docs/dependencies.md: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[path] = &module{path: path, dir: dir}
	}
	return nil
}
