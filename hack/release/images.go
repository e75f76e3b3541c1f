// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const megabyte = 1e6

// limits of an image's compressed layers, in bytes: a node downloads agent and plugin before it runs its first pod.
var limits = map[string]int64{"controller": 90 * megabyte, "agent": 40 * megabyte, "cni": 10 * megabyte}

// buildImages builds an OCI archive of each image, with all its platforms, and an SBOM for each platform.
func (r *release) buildImages(ctx context.Context) error {
	var env []string
	if r.base == "none" {
		cache := filepath.Join(r.work, "ko")
		base, err := output(ctx, "go", "run", "./hack/images/base", filepath.Join(cache, "img"))
		if err != nil {
			return err
		}
		env = []string{"KOCACHE=" + cache, "KO_DEFAULTBASEIMAGE=base.invalid/empty@" + base}
		fmt.Println("these images have an empty base: without CA certificates they reach no AWS API by HTTPS; publish none of them")
	} else if r.base != "" {
		env = []string{"KO_DEFAULTBASEIMAGE=" + r.base}
	}
	for _, name := range r.images {
		if err := r.addKodata(ctx, name); err != nil {
			return err
		}
		layout := filepath.Join("..", name) // in r.work; of absolute paths ko takes those only that a repository could have
		env := r.environment(append(env, "KO_DOCKER_REPO=ghcr.io/dovetail-dev/dovetail/"+name)...)
		labels := []string{
			v1.AnnotationTitle + "=dovetail-" + name, v1.AnnotationVersion + "=" + r.version, v1.AnnotationRevision + "=" + r.commit,
			v1.AnnotationSource + "=https://" + repository, v1.AnnotationLicenses + "=Apache-2.0",
		}
		if err := execute(ctx, env, r.ko, "build", "--push=false", "--bare", "--sbom=spdx", "--sbom-dir="+filepath.Join(r.out, sbomDir),
			"--image-label="+strings.Join(labels, ","), "--image-annotation="+strings.Join(labels, ","), "--platform="+strings.Join(r.platforms, ","), "--oci-layout-path="+layout, "./cmd/"+name); err != nil {
			return err
		}
		if err := r.checkImage(ctx, name, layout); err != nil {
			return err
		}
		entries, err := directoryEntries(layout)
		if err != nil {
			return err
		}
		path := filepath.Join(r.out, fmt.Sprintf("%s_%s.oci.tar", name, r.version))
		if err := writeArchive(path, r.epoch, entries); err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}

// checkImage prints what a node downloads of an image, and fails where it is too much, where a platform is missing, or where what is
// in it is not of this release.
func (r *release) checkImage(ctx context.Context, name, layout string) error {
	var index v1.Index
	if err := readJSON(filepath.Join(layout, v1.ImageIndexFile), &index); err != nil {
		return err
	}
	var platforms []string
	if err := eachImage(layout, index, func(d digest.Digest, manifest v1.Manifest) error {
		var image v1.Image
		if err := readJSON(blob(layout, manifest.Config.Digest), &image); err != nil {
			return err
		}
		platform := image.OS + "/" + image.Architecture
		platforms = append(platforms, platform)
		size := manifest.Config.Size
		for _, layer := range manifest.Layers {
			size += layer.Size
		}
		limit := limits[name]
		fmt.Printf("%-10s %-6s %5.1f MB compressed, limit %.0f MB, %s\n", name, image.Architecture, float64(size)/megabyte, float64(limit)/megabyte, d)
		if limit > 0 && size > limit {
			return fmt.Errorf("image %s for %s is %d bytes, more than %d", name, platform, size, limit)
		}
		if version, commit := image.Config.Labels[v1.AnnotationVersion], image.Config.Labels[v1.AnnotationRevision]; version != r.version || commit != r.commit {
			return fmt.Errorf("image %s for %s has the labels of version %q, commit %q", name, platform, version, commit)
		}
		files, err := unpack(layout, manifest, filepath.Join(r.work, "unpacked", name+"-"+image.Architecture), "ko-app/"+name, "var/run/ko/"+licenceFile, "var/run/ko/"+noticesFile)
		if err != nil {
			return fmt.Errorf("image %s for %s: %w", name, platform, err)
		}
		return r.checkProgram(ctx, files[0], platform, "--version")
	}); err != nil {
		return err
	}
	slices.Sort(platforms)
	if want := slices.Sorted(slices.Values(r.platforms)); !slices.Equal(platforms, want) {
		return fmt.Errorf("image %s is for %v, not for %v", name, platforms, want)
	}
	return nil
}

// unpack writes files of an image's layers into a directory, and returns where they are.
func unpack(layout string, manifest v1.Manifest, dir string, names ...string) (paths []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	paths = make([]string, len(names))
	for _, layer := range manifest.Layers {
		if err := eachFile(blob(layout, layer.Digest), func(header *tar.Header, content io.Reader) error {
			i := slices.Index(names, strings.TrimPrefix(header.Name, "/"))
			if i < 0 {
				return nil
			}
			paths[i] = filepath.Join(dir, filepath.Base(header.Name))
			file, err := os.OpenFile(paths[i], os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
			if err != nil {
				return err
			}
			_, err = io.Copy(file, content)
			return errors.Join(err, file.Close())
		}); err != nil {
			return nil, err
		}
	}
	if i := slices.Index(paths, ""); i >= 0 {
		return nil, fmt.Errorf("it has no file %s", names[i])
	}
	return paths, nil
}

func blob(layout string, d digest.Digest) string {
	return filepath.Join(layout, v1.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func eachImage(layout string, index v1.Index, visit func(digest.Digest, v1.Manifest) error) error {
	for _, d := range index.Manifests {
		path := blob(layout, d.Digest)
		if d.MediaType == v1.MediaTypeImageIndex || strings.HasSuffix(d.MediaType, "manifest.list.v2+json") {
			var below v1.Index
			if err := readJSON(path, &below); err != nil {
				return err
			}
			if err := eachImage(layout, below, visit); err != nil {
				return err
			}
			continue
		}
		var manifest v1.Manifest
		if err := readJSON(path, &manifest); err != nil {
			return err
		}
		if err := visit(d.Digest, manifest); err != nil {
			return err
		}
	}
	return nil
}

func readJSON(path string, into any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
