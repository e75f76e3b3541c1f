// SPDX-License-Identifier: Apache-2.0

// Reference writes the pages of docs/reference: one for each kind of Dovetail's, from its custom resource definition, and one for labels. What
// a definition does not hold (conditions, reasons, labels) is read from the constants of pkg/apis. Run it in the root of the repository,
// after controller-gen: `make generate` does.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const (
	definitions = "charts/dovetail-crd/templates"
	types       = "pkg/apis/v1alpha1"
	pages       = "docs/reference"
)

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func write() error {
	rendered, err := render(".")
	if err != nil {
		return err
	}
	for name, page := range rendered {
		if err := os.WriteFile(filepath.Join(pages, name), []byte(page), 0o644); err != nil { //nolint:gosec // a page is for everybody
			return err
		}
	}
	return nil
}

// render returns the pages by file name. Root is that of the repository.
func render(root string) (map[string]string, error) {
	rendered := map[string]string{}
	for _, kind := range []string{"podnetwork", "nodemigration"} {
		definition, err := read(filepath.Join(root, definitions, "dovetail.dev_"+kind+"s.yaml"))
		if err != nil {
			return nil, err
		}
		constants, err := constantsOf(filepath.Join(root, types, kind+".go"))
		if err != nil {
			return nil, err
		}
		rendered[kind+".md"] = kindPage(definition, constants)
	}
	constants, err := constantsOf(filepath.Join(root, types, "labels.go"))
	if err != nil {
		return nil, err
	}
	rendered["labels.md"] = labelsPage(constants)
	return rendered, nil
}

func read(path string) (*apiextensionsv1.CustomResourceDefinition, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	definition := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(content, definition); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return definition, nil
}
