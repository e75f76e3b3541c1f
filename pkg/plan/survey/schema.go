// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/charts"
)

// schema of a kind, as the API server has it.
type schema struct {
	apiVersion string
	structural *structuralschema.Structural
	values     validation.SchemaValidator
	rules      *cel.Validator
}

// schemas of the chart's custom resources, by kind.
var schemas = sync.OnceValues(func() (map[string]schema, error) {
	objects, err := charts.Render(charts.CRDs, charts.Release{Name: charts.CRDs})
	if err != nil {
		return nil, err
	}
	found := map[string]schema{}
	for _, object := range objects {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, crd); err != nil {
			return nil, err
		}
		for _, v := range crd.Spec.Versions {
			if !v.Storage {
				continue
			}
			s, err := schemaOf(v.Schema.OpenAPIV3Schema)
			if err != nil {
				return nil, fmt.Errorf("schema of %s, %w", crd.Spec.Names.Kind, err)
			}
			s.apiVersion = crd.Spec.Group + "/" + v.Name
			found[crd.Spec.Names.Kind] = s
		}
	}
	return found, nil
})

func schemaOf(props *apiextensionsv1.JSONSchemaProps) (s schema, err error) {
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(props, internal, nil); err != nil {
		return s, err
	}
	if s.structural, err = structuralschema.NewStructural(internal); err != nil {
		return s, err
	}
	if s.values, _, err = validation.NewSchemaValidator(internal); err != nil {
		return s, err
	}
	s.rules = cel.NewValidator(s.structural, true, celconfig.PerCallLimit)
	return s, nil
}

// check says what the API server would say of an object that is not applied yet: nothing behind it is made for other values.
func check(kind string, document []byte) error {
	known, err := schemas()
	if err != nil {
		return err
	}
	s := known[kind]
	raw, err := yaml.YAMLToJSON(document)
	if err != nil {
		return err
	}
	var object map[string]any
	if err := utiljson.Unmarshal(raw, &object); err != nil { // whole numbers stay such
		return err
	}
	if object["apiVersion"] != s.apiVersion {
		return field.Invalid(field.NewPath("apiVersion"), object["apiVersion"], "this program knows "+s.apiVersion)
	}
	metadata, _ := object["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	for _, problem := range apivalidation.NameIsDNSSubdomain(name, false) {
		return field.Invalid(field.NewPath("metadata", "name"), name, problem)
	}
	// Field names have their case, which Go's decoder does not look at.
	unknown := pruning.PruneWithOptions(object, s.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return fmt.Errorf("unknown field %q", unknown[0])
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(object, s.structural)
	defaulting.Default(object, s.structural)
	problems := validation.ValidateCustomResource(nil, object, s.values)
	if len(problems) == 0 && s.rules != nil {
		problems, _ = s.rules.Validate(context.Background(), nil, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
	}
	return problems.ToAggregate()
}
