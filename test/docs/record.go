// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// Call of a program by a script.
type Call struct {
	Args  []string // the program's name first, without its directory
	Stdin string
}

// programs that scripts may call. Nothing else is in the PATH: a misspelt one is an error. A page with another program adds it here.
var programs = []string{
	"dovetail", "kubectl", "helm", "aws", "make",
	"cat", "crane", "diff", "git", "go", "jq", "mkdir", "sed", "sha256sum", "tar", "tcpdump", "xdg-open",
}

// stay lets a script change to folders that are not there.
const stay = "cd() { :; }\n"

// recorder stands in the place of a program: it writes down how it was called, in files that sort by the order of the calls.
const recorder = `#!/bin/bash
call=$(printf %06d $(($(/bin/ls "$CALLS" | /usr/bin/wc -l) + 1)))
while [ -e "$CALLS/$call" ]; do call=$((10#$call + 1)); done
{ printf '%s\0' "${0##*/}" "$@"; } >"$CALLS/$call"
/bin/cat >"$CALLS/$call.in"
`

// Record gives a script to bash, with recorders for programs and a directory of its own, and returns the calls that bash makes
// of it. So quotes, here-documents, pipes and comments are read by a shell, and nothing is done.
func Record(ctx context.Context, script, dir string) ([]Call, error) {
	calls, bin := filepath.Join(dir, "calls"), filepath.Join(dir, "bin")
	for _, made := range []string{calls, bin} {
		if err := os.MkdirAll(made, 0o700); err != nil {
			return nil, err
		}
	}
	for _, program := range programs {
		if err := os.WriteFile(filepath.Join(bin, program), []byte(recorder), 0o700); err != nil { //nolint:gosec // it is a program
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, "/bin/bash", "--noprofile", "--norc", "-e", "-c", stay+script)
	cmd.Dir = dir // bin/dovetail is there too
	cmd.Env = []string{"PATH=" + bin, "CALLS=" + calls, "CLUSTER_NAME=CLUSTER", "CLUSTER=CLUSTER"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("bash: %w: %s(programs are listed in test/docs/record.go)", err, out)
	}
	return read(calls)
}

func read(dir string) (calls []Call, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*[0-9]"))
	if err != nil {
		return nil, err
	}
	sort.Strings(files)
	for _, file := range files {
		args, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		stdin, err := os.ReadFile(file + ".in")
		if err != nil {
			return nil, err
		}
		calls = append(calls, Call{Args: strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00"), Stdin: string(stdin)})
	}
	return calls, nil
}

// Dovetail returns the arguments of a call of the command line, by either of its names.
func (c Call) Dovetail() ([]string, bool) {
	switch {
	case c.Args[0] == "dovetail":
		return c.Args[1:], true
	case len(c.Args) > 1 && c.Args[0] == "kubectl" && c.Args[1] == "dovetail":
		return c.Args[2:], true
	default:
		return nil, false
	}
}
