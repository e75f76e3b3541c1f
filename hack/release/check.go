// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// checkProgram fails where a program is not of this commit or not for the platform, where it does not print version and commit if
// this machine can run it, or where its SBOM lacks a module that the linker wrote into it.
func (r *release) checkProgram(ctx context.Context, path, platform string, printVersion ...string) error {
	name := filepath.Base(path)
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["vcs.revision"] != r.commit || settings["vcs.modified"] != "false" {
		return fmt.Errorf("%s for %s is of commit %q, modified %q, not of %s", name, platform, settings["vcs.revision"], settings["vcs.modified"], r.commit)
	}
	if built := settings["GOOS"] + "/" + settings["GOARCH"]; built != platform {
		return fmt.Errorf("%s for %s is for %s", name, platform, built)
	}
	if platform == runtime.GOOS+"/"+runtime.GOARCH {
		says, err := output(ctx, path, printVersion...)
		if err != nil {
			return err
		}
		if !strings.Contains(says, r.version) || !strings.Contains(says, r.commit) {
			return fmt.Errorf("%s for %s says %q, which is not version %s of commit %s", name, platform, says, r.version, r.commit)
		}
	}
	var bom struct {
		Packages []struct{ Name, VersionInfo string }
	}
	if err := readJSON(filepath.Join(r.out, sbomDir, bomName(name, platform)), &bom); err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, p := range bom.Packages {
		listed[p.Name+" "+p.VersionInfo] = true
	}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		if !listed[dep.Path+" "+dep.Version] {
			return fmt.Errorf("the SBOM of %s for %s has no %s %s", name, platform, dep.Path, dep.Version)
		}
	}
	return nil
}

// bomName is what ko calls an SBOM.
func bomName(program, platform string) string {
	return program + "-" + strings.ReplaceAll(platform, "/", "-") + ".spdx.json"
}
