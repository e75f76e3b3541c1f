// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/test/docs"
)

// Commands that need nothing but this program: the pages' output is what it prints.
var offline = map[string]bool{"max-pods": true}

// Each call of this program in the documentation names a command, flags and a number of arguments that it takes. Those that need no
// cluster are run, and print what the page shows.
func TestCommandsInTheDocumentation(t *testing.T) {
	blocks, err := docs.All("../..")
	require.NoError(t, err)
	parsed, ran := 0, 0
	for _, block := range blocks {
		outputs := []string{}
		for _, session := range block.Sessions() {
			outputs = append(outputs, session.Output)
		}
		script := block.Script()
		if script == "" {
			continue
		}
		calls, err := docs.Record(t.Context(), script, t.TempDir())
		require.NoError(t, err, "%s:%d", block.Page, block.Line)
		for i, call := range calls {
			args, ours := call.Dovetail()
			if !ours {
				continue
			}
			parsed++
			command := parse(t, block, args)
			if command == nil || !offline[command.Name()] {
				continue
			}
			ran++
			out := &bytes.Buffer{}
			root := newRootCommand()
			root.SetArgs(args)
			root.SetOut(out)
			require.NoError(t, root.Execute(), "%s:%d: %s", block.Page, block.Line, args)
			if block.Language == "console" {
				require.Len(t, calls, len(outputs), "%s:%d: a call each line", block.Page, block.Line)
				assert.Equal(t, outputs[i], out.String(), "%s:%d: %s", block.Page, block.Line, args)
			}
		}
	}
	t.Logf("%d calls parsed, %d run", parsed, ran)
	require.Greater(t, parsed, 30)
	require.Greater(t, ran, 4)
}

func parse(t *testing.T, block docs.Block, args []string) *cobra.Command {
	t.Helper()
	where := []any{"%s:%d: dovetail %s", block.Page, block.Line, strings.Join(args, " ")}
	command, rest, err := newRootCommand().Find(args)
	if !assert.NoError(t, err, where...) {
		return nil
	}
	if command.Name() == "help" || command.Name() == "completion" {
		return nil
	}
	assert.True(t, command.Runnable(), where...)
	if assert.NoError(t, command.ParseFlags(rest), where...) {
		assert.NoError(t, command.ValidateArgs(command.Flags().Args()), where...)
	}
	return command
}
