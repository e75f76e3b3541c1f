// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// buildCommandLine builds `dovetail` for each platform, and an SBOM of each. As links in the archive it is a plugin of kubectl, and
// completes its names.
func (r *release) buildCommandLine(ctx context.Context) error {
	if len(r.cli) == 0 {
		return nil
	}
	notices := filepath.Join(r.work, noticesFile)
	if err := r.licenses(ctx, "notices", ".", "./cmd/dovetail", notices); err != nil {
		return err
	}
	for _, platform := range r.cli {
		system, arch, ok := strings.Cut(platform, "/")
		if !ok {
			return fmt.Errorf("%q is no platform", platform)
		}
		program := filepath.Join(r.work, "cli", system+"-"+arch, "dovetail")
		if err := execute(ctx, r.environment("GOOS="+system, "GOARCH="+arch), "go", "build", "-ldflags", r.ldflags(), "-o", program, "./cmd/dovetail"); err != nil {
			return err
		}
		binary, err := fileEntry("dovetail", program, 0o755)
		if err != nil {
			return err
		}
		licence, err := fileEntry(licenceFile, licenceFile, 0o644)
		if err != nil {
			return err
		}
		notices, err := fileEntry(noticesFile, notices, 0o644)
		if err != nil {
			return err
		}
		if err := r.licenses(ctx, "sbom", ".", "./cmd/dovetail", program, r.version, filepath.Join(r.out, sbomDir, bomName("dovetail", platform))); err != nil {
			return err
		}
		if err := r.checkProgram(ctx, program, platform, "version"); err != nil {
			return err
		}
		path := filepath.Join(r.out, fmt.Sprintf("dovetail_%s_%s_%s.tar.gz", r.version, system, arch))
		if err := writeArchive(path, r.epoch, []entry{
			licence, notices, binary,
			{name: "kubectl-dovetail", mode: 0o777, link: "dovetail"},
			{name: "kubectl_complete-dovetail", mode: 0o777, link: "dovetail"},
		}); err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}
