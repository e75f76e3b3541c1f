// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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
		if err := execute(ctx, env, r.ko, "build", "--push=false", "--bare", "--sbom=spdx", "--sbom-dir="+filepath.Join(r.out, sbomDir),
			"--platform="+strings.Join(r.platforms, ","), "--oci-layout-path="+layout, "./cmd/"+name); err != nil {
			return err
		}
		if err := checkSizes(name, layout); err != nil {
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

// checkSizes prints what a node downloads of an image, and fails where it is too much.
func checkSizes(name, layout string) error {
	var index v1.Index
	if err := readJSON(filepath.Join(layout, v1.ImageIndexFile), &index); err != nil {
		return err
	}
	return eachImage(layout, index, func(platform v1.Platform, d digest.Digest, manifest v1.Manifest) error {
		size := manifest.Config.Size
		for _, layer := range manifest.Layers {
			size += layer.Size
		}
		limit := limits[name]
		fmt.Printf("%-10s %-6s %5.1f MB compressed, limit %.0f MB, %s\n", name, platform.Architecture, float64(size)/megabyte, float64(limit)/megabyte, d)
		if limit > 0 && size > limit {
			return fmt.Errorf("image %s for %s/%s is %d bytes, more than %d", name, platform.OS, platform.Architecture, size, limit)
		}
		return nil
	})
}

func eachImage(layout string, index v1.Index, visit func(v1.Platform, digest.Digest, v1.Manifest) error) error {
	for _, d := range index.Manifests {
		path := filepath.Join(layout, v1.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded())
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
		if err := visit(*cmp.Or(d.Platform, &v1.Platform{}), d.Digest, manifest); err != nil {
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
