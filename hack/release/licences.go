// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// licenceFile is ours, noticesFile has those of the modules that are compiled in. Both are in each image and archive.
const (
	licenceFile = "LICENSE"
	noticesFile = "THIRD-PARTY-NOTICES"
)

// licenses runs hack/licenses, a module of its own.
func (r *release) licenses(ctx context.Context, args ...string) error {
	program := filepath.Join(r.work, "licenses")
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) {
		if err := execute(ctx, r.environment(), "go", "build", "-C", "hack/licenses", "-o", program, "."); err != nil {
			return err
		}
	}
	return execute(ctx, r.environment(), program, args...)
}

// addKodata lays a program's licence and notices where ko takes an image's files from, which git ignores: else Go would call the
// program built of a changed commit.
func (r *release) addKodata(ctx context.Context, program string) error {
	dir := filepath.Join("cmd", program, "kodata")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	licence, err := os.ReadFile(licenceFile)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, licenceFile), licence, 0o644); err != nil {
		return err
	}
	return r.licenses(ctx, "notices", ".", "./cmd/"+program, filepath.Join(dir, noticesFile))
}
