// SPDX-License-Identifier: Apache-2.0

// Package charts_test renders the charts with Helm's engine and gives the result to a real API server.
package charts_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

func render(t *testing.T, dir string, values map[string]any) ([]*unstructured.Unstructured, error) {
	t.Helper()
	chart, err := loader.Load(dir)
	require.NoError(t, err)
	merged, err := chartutil.ToRenderValues(chart, values, chartutil.ReleaseOptions{Name: "dovetail", Namespace: "dovetail-system", IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, merged)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for _, document := range strings.Split(files[name], "\n---") {
			object := &unstructured.Unstructured{}
			require.NoError(t, yaml.Unmarshal([]byte(document), &object.Object), name)
			if len(object.Object) > 0 {
				objects = append(objects, object)
			}
		}
	}
	return objects, nil
}

func TestTheAPIServerTakesEveryObjectOfTheChartsStrictly(t *testing.T) {
	ctx := context.Background()
	c, err := client.New(controlplanetest.Start(t), client.Options{})
	require.NoError(t, err)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "dovetail-system"}}
	require.NoError(t, c.Create(ctx, namespace))
	for dir, values := range map[string]map[string]any{
		"dovetail-crd": nil,
		"dovetail": {
			"settings":   map[string]any{"clusterName": "test", "interruptionQueue": "queue"},
			"controller": map[string]any{"hostNetwork": true, "env": []any{map[string]any{"name": "AWS_REGION", "value": "us-east-1"}}},
			"agent":      map[string]any{"env": []any{map[string]any{"name": "AWS_REGION", "value": "us-east-1"}}},
		},
	} {
		objects, err := render(t, dir, values)
		require.NoError(t, err)
		require.NotEmpty(t, objects)
		for _, object := range objects {
			err := client.WithFieldValidation(c, metav1.FieldValidationStrict).Create(ctx, object)
			require.NoError(t, err, "%s %s", object.GetKind(), object.GetName())
		}
	}
}

func TestTheChartRefusesToInstallWithoutAClusterName(t *testing.T) {
	_, err := render(t, "dovetail", nil)
	require.ErrorContains(t, err, "clusterName")
}
