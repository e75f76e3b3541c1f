// SPDX-License-Identifier: Apache-2.0

// Package charts holds Dovetail's Helm charts and renders them as Helm does.
package charts

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

//go:embed all:dovetail all:dovetail-crd
var files embed.FS

// Names of the charts.
const (
	Dovetail = "dovetail"
	CRDs     = "dovetail-crd"
)

// Release is what Helm knows of an installation.
type Release struct {
	Name, Namespace string
	Values          map[string]any
}

// Render returns a chart's objects, in the order of its files.
func Render(name string, release Release) ([]*unstructured.Unstructured, error) {
	var buffered []*loader.BufferedFile
	err := fs.WalkDir(files, name, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := files.ReadFile(path)
		buffered = append(buffered, &loader.BufferedFile{Name: strings.TrimPrefix(path, name+"/"), Data: content})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", name, err)
	}
	chart, err := loader.LoadFiles(buffered)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", name, err)
	}
	values, err := chartutil.ToRenderValues(chart, release.Values,
		chartutil.ReleaseOptions{Name: release.Name, Namespace: release.Namespace, IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", name, err)
	}
	rendered, err := engine.Render(chart, values)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", name, err)
	}
	var objects []*unstructured.Unstructured
	for _, file := range slices.Sorted(maps.Keys(rendered)) {
		if !strings.HasSuffix(file, ".yaml") {
			continue
		}
		for _, document := range strings.Split(rendered[file], "\n---") {
			object := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
				return nil, fmt.Errorf("chart %s: %s: %w", name, file, err)
			}
			if len(object.Object) > 0 {
				objects = append(objects, object)
			}
		}
	}
	return objects, nil
}
