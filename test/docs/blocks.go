// SPDX-License-Identifier: Apache-2.0

// Package docs reads the commands that the documentation shows, so that tests can look whether they exist, and run them.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Block is a fenced block of a page.
type Block struct {
	// Page's path from the root of the repository, and the line of the first line within the fence.
	Page string
	Line int
	// Language behind the fence: sh, console, yaml, ...
	Language string
	Text     string
	// Mark is the HTML comment on the line before the fence, without its brackets: "install" is a step of the README's installation.
	Mark string
}

// Pages with commands for users, from the root of the repository.
func Pages(root string) ([]string, error) {
	pages := []string{"README.md", "iam/README.md", "charts/dovetail/README.md", "charts/dovetail-crd/README.md", "test/README.md", "pkg/sandbox/README.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			page, err := filepath.Rel(root, path)
			pages = append(pages, page)
			return err
		}
		return err
	})
	return pages, err
}

// Blocks of a page.
func Blocks(root, page string) ([]Block, error) {
	content, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		return nil, err
	}
	var blocks []Block
	lines := strings.Split(string(content), "\n")
	for i := 0; i < len(lines); i++ {
		fence := strings.TrimLeft(lines[i], " ")
		indent := lines[i][:len(lines[i])-len(fence)]
		language, found := strings.CutPrefix(fence, "```")
		if !found {
			continue
		}
		block := Block{Page: page, Line: i + 2, Language: strings.TrimSpace(language)}
		if i > 0 && strings.HasPrefix(lines[i-1], "<!-- ") {
			block.Mark = strings.TrimSuffix(strings.TrimPrefix(lines[i-1], "<!-- "), " -->")
		}
		end := slices.IndexFunc(lines[i+1:], func(line string) bool { return strings.TrimSpace(line) == "```" })
		if end < 0 {
			end = len(lines) - i - 1
		}
		for _, line := range lines[i+1 : i+1+end] {
			block.Text += strings.TrimPrefix(line, indent) + "\n"
		}
		blocks = append(blocks, block)
		i += end + 1
	}
	return blocks, nil
}

// All blocks of all pages.
func All(root string) (all []Block, err error) {
	pages, err := Pages(root)
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		blocks, err := Blocks(root, page)
		if err != nil {
			return nil, err
		}
		all = append(all, blocks...)
	}
	return all, nil
}

// Session is a command that a console block shows, and what it prints.
type Session struct{ Command, Output string }

// Sessions of a console block: what stands behind each "$ ", with the lines until the next one.
func (b Block) Sessions() (sessions []Session) {
	for line := range strings.Lines(b.Text) {
		if command, found := strings.CutPrefix(line, "$ "); found {
			sessions = append(sessions, Session{Command: command})
		} else if len(sessions) > 0 {
			sessions[len(sessions)-1].Output += line
		}
	}
	return sessions
}

// Script of a block's commands, for a shell; "" where the block has none.
func (b Block) Script() string {
	switch b.Language {
	case "sh":
		return b.Text
	case "console":
		script := ""
		for _, session := range b.Sessions() {
			script += session.Command
		}
		return script
	default:
		return ""
	}
}
