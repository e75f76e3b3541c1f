// SPDX-License-Identifier: Apache-2.0

// Package version says which build of Dovetail a program is.
package version

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the linker: -X github.com/dovetail-dev/dovetail/pkg/version.version=v1.2.3.
var version string

// Build is what a program was built from.
type Build struct {
	// Version is the release, or git's description of what was built.
	Version string `json:"version"`
	// Commit is empty where the program was not built in a git work tree.
	Commit string `json:"commit,omitempty"`
	// Modified tells that the work tree differed from the commit.
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Get returns what this program was built from.
func Get() Build {
	info, _ := debug.ReadBuildInfo() // without it, what the linker was told is left
	return build(version, info)
}

func build(linked string, info *debug.BuildInfo) Build {
	b := Build{Version: linked, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info != nil {
		b.Version = cmp.Or(linked, info.Main.Version) // the latter is what `go install MODULE@VERSION` leaves
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				b.Commit = setting.Value
			case "vcs.modified":
				b.Modified = setting.Value == "true"
			}
		}
	}
	b.Version = cmp.Or(b.Version, "unknown")
	return b
}

// String is one line, as the programs print it.
func (b Build) String() string {
	commit := cmp.Or(b.Commit, "unknown")
	if b.Modified {
		commit += ", modified"
	}
	return fmt.Sprintf("%s (commit %s, %s, %s)", b.Version, commit, b.Go, b.Platform)
}

// Asked tells whether a program was called for its version only, and prints it then: `version` or `--version`.
func Asked(args []string, out io.Writer) bool {
	if len(args) != 1 || args[0] != "version" && args[0] != "--version" {
		return false
	}
	fmt.Fprintln(out, Get())
	return true
}
