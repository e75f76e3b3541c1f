// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/google/licensecheck"
)

// enough is the share of a file, in per cent, that a licence's text makes up in a licence file: the rest are names and notices.
const enough = 75

var (
	licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([.-].*)?$`)
	// notText are files that are only called so, and licences of documentation.
	notText = regexp.MustCompile(`\.(go|json|tmpl|yaml|yml|docs)$`)
)

// files of a module whose names match, in its directory and beside the packages that are compiled in.
func (m *module) files(names ...*regexp.Regexp) (paths []string, err error) {
	for _, dir := range append([]string{m.dir}, slices.Sorted(maps.Keys(m.below))...) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			matches := slices.ContainsFunc(names, func(name *regexp.Regexp) bool { return name.MatchString(entry.Name()) })
			if matches && entry.Type().IsRegular() && !notText.MatchString(entry.Name()) {
				paths = append(paths, filepath.Join(dir, entry.Name()))
			}
		}
	}
	return paths, nil
}

// licences of a module, as SPDX names them.
func (m *module) licences() ([]string, error) {
	paths, err := m.files(licenceFile)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		coverage := licensecheck.Scan(text)
		if coverage.Percent < enough {
			return nil, fmt.Errorf("%s: only %.0f %% of it are a licence that is known", path, coverage.Percent)
		}
		for _, match := range coverage.Match {
			if !match.IsURL {
				found[match.ID] = true
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("it has no file with its licence")
	}
	return slices.Sorted(maps.Keys(found)), nil
}
