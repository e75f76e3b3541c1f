// SPDX-License-Identifier: Apache-2.0

// Licenses knows the licences of the modules that are compiled into what a release publishes. It
//
//   - checks that each is allowed, is recognized, and is what docs/dependencies.md says, if the module is there;
//   - writes the notices that licences ask for: a program's modules, and the texts of their licences;
//   - writes an SBOM of a program in SPDX.
//
// A module's licences are those in its directory, and those beside the packages that are compiled in: code that it has from others.
package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// allowed are licences that let a program of Apache-2.0 be published with a notice and no more. MPL-2.0 asks for the source of its
// own files, which are unchanged and public.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "Unlicense", "CC0-1.0", "0BSD"}

// programs that are published, and for which platforms.
var programs = map[string][]platform{
	"./cmd/controller": {{"linux", "amd64"}, {"linux", "arm64"}},
	"./cmd/agent":      {{"linux", "amd64"}, {"linux", "arm64"}},
	"./cmd/cni":        {{"linux", "amd64"}, {"linux", "arm64"}},
	"./cmd/dovetail":   {{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}},
}

const usage = `usage:
  licenses check ROOT
  licenses notices ROOT PROGRAM OUT               (PROGRAM is one such as ./cmd/dovetail)
  licenses sbom ROOT PROGRAM BINARY VERSION OUT   (BINARY is built of PROGRAM; SOURCE_DATE_EPOCH is the time in the SBOM)`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "check":
		return check(args[1])
	case len(args) == 4 && args[0] == "notices":
		return writeNotices(args[1], args[2], args[3])
	case len(args) == 6 && args[0] == "sbom":
		return writeSBOM(args[1], args[2], args[3], args[4], args[5])
	}
	return errors.New(usage)
}

// check prints the licences of all modules that are published or on the page of dependencies.
func check(root string) error {
	published, err := publishedModules(root, slices.Sorted(maps.Keys(programs))...)
	if err != nil {
		return err
	}
	documented, err := readPage(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		return err
	}
	if err := addUnpublished(root, published, slices.Sorted(maps.Keys(documented))); err != nil {
		return err
	}
	var problems []error
	for _, path := range slices.Sorted(maps.Keys(published)) {
		licences, err := published[path].licences()
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", path, err))
			continue
		}
		found := strings.Join(licences, ", ")
		fmt.Printf("%-70s %s\n", path, found)
		for _, licence := range licences {
			if !slices.Contains(allowed, licence) {
				problems = append(problems, fmt.Errorf("%s: %s is not among the licences that are allowed", path, licence))
			}
		}
		if says, ok := documented[path]; ok && says != found {
			problems = append(problems, fmt.Errorf("%s: docs/dependencies.md says %s, it is %s", path, says, found))
		}
	}
	return errors.Join(problems...)
}
