// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// sumsFile is what `sha256sum --check` reads.
const sumsFile = "SHA256SUMS"

// sum writes the checksums of all that is published.
func (r *release) sum(context.Context) error {
	entries, err := directoryEntries(r.out)
	if err != nil {
		return err
	}
	var lines strings.Builder
	for _, e := range entries {
		hash := sha256.New()
		if _, err := io.Copy(hash, e.content); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		fmt.Fprintf(&lines, "%x  %s\n", hash.Sum(nil), e.name)
	}
	path := filepath.Join(r.out, sumsFile)
	fmt.Println(path)
	return os.WriteFile(path, []byte(lines.String()), 0o644)
}
