// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/cli"
)

func TestNothingThatATerminalObeysIsPrinted(t *testing.T) {
	for name, c := range map[string]struct{ text, printed string }{
		"letters of all kinds": {"pod web: läuft, 実行中 █▓░ · …\n\tnext", "pod web: läuft, 実行中 █▓░ · …\n\tnext"},
		"a sequence of ANSI":   {"a\x1b[2Jb", "a\uFFFD[2Jb"},
		"the title's":          {"\x1b]0;title\a", "\uFFFD]0;title\uFFFD"},
		"one of 8 bits":        {"\u009b31m", "\uFFFD31m"},
		"back to the margin":   {"denied\rallowed", "denied\uFFFDallowed"},
		"right to left":        {"\u202egnp.exe", "\uFFFDgnp.exe"},
		"no UTF-8":             {"\xff\xfe", "\uFFFD\uFFFD"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, (&cli.Output{}).Write(&out, nil, func(w io.Writer) { fmt.Fprint(w, c.text) }))
			require.Equal(t, c.printed, out.String())
		})
	}
}
