// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry of an archive: a file's content, or a link.
type entry struct {
	name string
	mode int64
	// content and size, or link.
	content io.Reader
	size    int64
	link    string
}

// writeArchive writes a tar file, compressed where its name says so. It holds no time but epoch and no owner: it depends on
// the entries alone.
func writeArchive(path string, epoch time.Time, entries []entry) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var to io.Writer = file
	if strings.HasSuffix(path, "gz") {
		compressed, err := gzip.NewWriterLevel(file, gzip.BestCompression)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, compressed.Close()) }()
		to = compressed
	}
	archive := tar.NewWriter(to)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Size: e.size, ModTime: epoch, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if e.link != "" {
			header.Typeflag, header.Linkname = tar.TypeSymlink, e.link
		}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		if e.link == "" {
			if _, err := io.Copy(archive, e.content); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
		}
	}
	return archive.Close()
}

// fileEntry is a file of the disk. It is closed with the process.
func fileEntry(name, path string, mode int64) (entry, error) {
	file, err := os.Open(path)
	if err != nil {
		return entry{}, err
	}
	info, err := file.Stat()
	if err != nil {
		return entry{}, err
	}
	return entry{name: name, mode: mode, content: file, size: info.Size()}, nil
}

// directoryEntries are the files below a directory, in the order of their names.
func directoryEntries(dir string) (entries []entry, err error) {
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		e, err := fileEntry(filepath.ToSlash(name), path, 0o644)
		entries = append(entries, e)
		return err
	})
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries, err
}

// eachFile calls visit with each file of a compressed tar file.
func eachFile(path string, visit func(*tar.Header, io.Reader) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	archive := tar.NewReader(plain)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := visit(header, archive); err != nil {
			return fmt.Errorf("%s: %s: %w", path, header.Name, err)
		}
	}
}
