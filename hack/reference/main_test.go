// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

const root = "../.."

func TestThePagesAreCurrent(t *testing.T) {
	rendered, err := render(root)
	require.NoError(t, err)
	for name, page := range rendered {
		content, err := os.ReadFile(filepath.Join(root, pages, name))
		require.NoError(t, err)
		assert.Equal(t, page, string(content), "run make generate")
	}
}

// A field that a person may set and a value that it may have are on the page, wherever they are in the object.
func TestEachFieldAndEachEnumValueIsOnItsPage(t *testing.T) {
	rendered, err := render(root)
	require.NoError(t, err)
	for _, kind := range []string{"podnetwork", "nodemigration"} {
		definition, err := read(filepath.Join(root, definitions, "dovetail.dev_"+kind+"s.yaml"))
		require.NoError(t, err)
		schema := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
		fields := 0
		var walk func(apiextensionsv1.JSONSchemaProps)
		walk = func(object apiextensionsv1.JSONSchemaProps) {
			for name, field := range object.Properties {
				fields++
				assert.Contains(t, rendered[kind+".md"], "| `"+name+"` |")
				for _, value := range field.Enum {
					assert.Contains(t, rendered[kind+".md"], "`"+unquoted(value)+"`")
				}
				for _, rule := range field.XValidations {
					assert.Contains(t, rendered[kind+".md"], cell(rule.Message))
				}
				if below, ok := descend(field); ok {
					walk(below)
				}
			}
		}
		walk(schema.Properties["spec"])
		walk(schema.Properties["status"])
		assert.Greater(t, fields, 20)
	}
}

func TestTheGroupAndTheLabelsAreThoseOfTheAPI(t *testing.T) {
	assert.Equal(t, v1alpha1.Group, group)
	rendered, err := render(root)
	require.NoError(t, err)
	for _, label := range v1alpha1.Labels() {
		assert.Contains(t, rendered["labels.md"], "| `"+label+"` | ", label)
		assert.NotContains(t, rendered["labels.md"], "| `"+label+"` |  |", "it has no meaning")
	}
	assert.Equal(t, 3, strings.Count(rendered["labels.md"], "\n## "))
}
