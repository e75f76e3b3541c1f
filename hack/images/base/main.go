// SPDX-License-Identifier: Apache-2.0

// Base writes an OCI layout with an empty image for each platform into a directory, and prints the digest of their index. In
// ko's cache it is a base image that no registry is asked for.
package main

import (
	_ "crypto/sha256" // for digests
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: base DIR")
		os.Exit(2)
	}
	index, err := write(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(index)
}

func write(dir string) (digest.Digest, error) {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return "", err
	}
	var images []v1.Descriptor
	for _, arch := range []string{"amd64", "arm64"} {
		platform := v1.Platform{OS: "linux", Architecture: arch}
		config, err := blob(dir, v1.MediaTypeImageConfig, v1.Image{Platform: platform, RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}})
		if err != nil {
			return "", err
		}
		image, err := blob(dir, v1.MediaTypeImageManifest, v1.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Config: config, Layers: []v1.Descriptor{},
		})
		if err != nil {
			return "", err
		}
		image.Platform = &platform
		images = append(images, image)
	}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: images}
	base, err := blob(dir, v1.MediaTypeImageIndex, index)
	if err != nil {
		return "", err
	}
	index.Manifests = append(index.Manifests, base) // ko looks up each of the three at the top
	if err := file(filepath.Join(dir, v1.ImageIndexFile), index); err != nil {
		return "", err
	}
	return base.Digest, file(filepath.Join(dir, v1.ImageLayoutFile), v1.ImageLayout{Version: v1.ImageLayoutVersion})
}

func blob(dir, mediaType string, content any) (v1.Descriptor, error) {
	encoded, err := json.Marshal(content)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := digest.FromBytes(encoded)
	err = os.WriteFile(filepath.Join(dir, "blobs", "sha256", d.Encoded()), encoded, 0o644)
	return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(encoded))}, err
}

func file(path string, content any) error {
	encoded, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return os.WriteFile(path, encoded, 0o644)
}
