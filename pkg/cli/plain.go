// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"strings"
	"unicode"
)

// Plain gives w what a terminal prints, and nothing that it would obey: names and messages are a cluster's, so that whoever can write an
// object or is a node chooses them.
func Plain(w io.Writer) io.Writer { return plain{w} }

type plain struct{ w io.Writer }

func (p plain) Write(text []byte) (int, error) {
	if _, err := io.WriteString(p.w, strings.Map(printable, string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

func printable(r rune) rune {
	if r == '\n' || r == '\t' || unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}
