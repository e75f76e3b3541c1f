// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// noticeFile are files that licences ask to be passed on besides themselves: Apache-2.0's NOTICE; Go's patents are a promise to users.
var noticeFile = regexp.MustCompile(`(?i)^(notice|patents)([.-].*)?$`)

// text of licences or notices, and the files that it is found in.
type text struct {
	content string
	files   []string
}

// writeNotices writes which modules a program contains on any of its platforms, and the texts of their licences and notices, each
// text once.
func writeNotices(root, program, out string) error {
	modules, err := publishedModules(root, program)
	if err != nil {
		return err
	}
	var page strings.Builder
	fmt.Fprintf(&page, "%s is published under the licence of the file LICENSE. It contains the modules below, which have the licences and the\n"+
		"sources that are named here. The texts of their licences and notices follow, each with the files that it is in.\n", filepath.Base(program))
	var texts []*text
	byWords := map[string]*text{}
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		m := modules[path]
		licences, err := m.licences()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Fprintf(&page, "\n%s %s\n    %s\n    %s\n", m.path, m.version, strings.Join(licences, ", "), source(m.path, m.version))
		files, err := m.files(licenceFile, noticeFile)
		if err != nil {
			return err
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(m.dir, file)
			if err != nil {
				return err
			}
			words := strings.Join(strings.Fields(string(content)), " ") // the same words, however the lines are broken
			t := byWords[words]
			if t == nil {
				t = &text{content: strings.TrimSpace(strings.ReplaceAll(string(content), "\r\n", "\n"))}
				byWords[words], texts = t, append(texts, t)
			}
			t.files = append(t.files, fmt.Sprintf("%s %s: %s", m.path, m.version, filepath.ToSlash(name)))
		}
	}
	for _, t := range texts {
		fmt.Fprintf(&page, "\n%s\n%s\n%s\n%s\n", strings.Repeat("=", 80), strings.Join(t.files, "\n"), strings.Repeat("-", 80), t.content)
	}
	return os.WriteFile(out, []byte(page.String()), 0o644)
}
