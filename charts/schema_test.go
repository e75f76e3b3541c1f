// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/charts"
)

// schema of a value, as far as the tests and the READMEs read it.
type schema struct {
	Description          string
	Type                 any
	Properties           properties
	AdditionalProperties any
	Examples             []any
}

// properties in the order of the file.
type properties struct {
	names   []string
	schemas map[string]*schema
}

func (p *properties) UnmarshalJSON(content []byte) error {
	if err := json.Unmarshal(content, &p.schemas); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	if _, err := decoder.Token(); err != nil { // the brace
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		p.names = append(p.names, name.(string))
		var skipped json.RawMessage
		if err := decoder.Decode(&skipped); err != nil {
			return err
		}
	}
	return nil
}

// value of a chart: one that has no values in it that the chart knows by name.
type value struct {
	path   []string
	schema *schema
}

func (v value) String() string { return strings.Join(v.path, ".") }

// read returns a chart's schema and the defaults of its values.
func read(t *testing.T, chart string) (*schema, map[string]any) {
	t.Helper()
	content, err := os.ReadFile(chart + "/values.schema.json")
	require.NoError(t, err)
	root := &schema{}
	require.NoError(t, json.Unmarshal(content, root))
	content, err = os.ReadFile(chart + "/values.yaml")
	require.NoError(t, err)
	defaults := map[string]any{}
	require.NoError(t, yaml.Unmarshal(content, &defaults))
	return root, defaults
}

func (s *schema) values(path ...string) (all []value) {
	for _, name := range s.Properties.names {
		below, at := s.Properties.schemas[name], append(slices.Clone(path), name)
		switch {
		case len(path) == 0 && name == "global": // Helm's
		case len(below.Properties.names) > 0:
			all = append(all, below.values(at...)...)
		default:
			all = append(all, value{at, below})
		}
	}
	return all
}

// defaultsOf lists what values.yaml has at the places where the schema ends, or has nothing.
func (s *schema) defaultsOf(defaults map[string]any, path ...string) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(defaults)) {
		below, at := s.Properties.schemas[name], append(slices.Clone(path), name)
		if inner, ok := defaults[name].(map[string]any); ok && below != nil && len(below.Properties.names) > 0 {
			all = append(all, below.defaultsOf(inner, at...)...)
			continue
		}
		all = append(all, strings.Join(at, "."))
	}
	return all
}

func defaultOf(defaults map[string]any, path []string) any {
	for _, name := range path[:len(path)-1] {
		defaults, _ = defaults[name].(map[string]any)
	}
	return defaults[path[len(path)-1]]
}

func TestTheSchemaAndTheDefaultsHaveTheSameValues(t *testing.T) {
	for _, chart := range []string{charts.Dovetail, charts.CRDs} {
		root, defaults := read(t, chart)
		var names []string
		for _, v := range root.values() {
			names = append(names, v.String())
			require.NotEmpty(t, v.schema.Description, v)
			require.Len(t, v.schema.Examples, 1, "%s: an example away from its default", v)
			require.NotEqual(t, defaultOf(defaults, v.path), v.schema.Examples[0], "%s: the example is the default", v)
		}
		require.ElementsMatch(t, root.defaultsOf(defaults), names, chart)
	}
}

func TestTheSchemaSaysOfEachObjectWhatElseMayBeInIt(t *testing.T) {
	for _, chart := range []string{charts.Dovetail, charts.CRDs} {
		content, err := os.ReadFile(chart + "/values.schema.json")
		require.NoError(t, err)
		var document any
		require.NoError(t, json.Unmarshal(content, &document))
		var check func(string, any)
		check = func(path string, node any) {
			switch n := node.(type) {
			case []any:
				for i, below := range n {
					check(fmt.Sprintf("%s[%d]", path, i), below)
				}
			case map[string]any:
				if n["type"] == "object" {
					require.Contains(t, n, "additionalProperties", path)
				}
				if _, ok := n["properties"].(map[string]any); ok && n["type"] == "object" {
					require.Equal(t, false, n["additionalProperties"], path)
				}
				for name, below := range n {
					if name != "examples" {
						check(path+"."+name, below)
					}
				}
			}
		}
		check(chart, document)
	}
}

// with returns values in which one is set.
func with(path []string, set any) map[string]any {
	values := map[string]any{}
	at := values
	for _, name := range path[:len(path)-1] {
		below := map[string]any{}
		at[name], at = below, below
	}
	at[path[len(path)-1]] = set
	return values
}

// flat is every scalar of rendered objects, each with its place.
func flat(objects []*unstructured.Unstructured) map[string]bool {
	found := map[string]bool{}
	var walk func(string, any)
	walk = func(path string, node any) {
		switch n := node.(type) {
		case map[string]any:
			for name, below := range n {
				walk(path+"."+name, below)
			}
		case []any:
			for i, below := range n {
				walk(fmt.Sprintf("%s[%d]", path, i), below)
			}
		default:
			found[fmt.Sprintf("%s=%v", path, n)] = true
		}
	}
	for _, object := range objects {
		walk(object.GetKind()+"/"+object.GetName(), object.Object)
	}
	return found
}

// scalars of an example, keys too.
func scalars(example any) (all []string) {
	switch e := example.(type) {
	case nil: // takes a default away
	case map[string]any:
		for name, below := range e {
			if below != nil {
				all = append(append(all, name), scalars(below)...)
			}
		}
	case []any:
		for _, below := range e {
			all = append(all, scalars(below)...)
		}
	default:
		all = append(all, fmt.Sprint(e))
	}
	return all
}

// merge puts more into values.
func merge(values, more map[string]any) map[string]any {
	for name, set := range more {
		inner, ok := values[name].(map[string]any)
		if below, both := set.(map[string]any); ok && both {
			merge(inner, below)
		} else {
			values[name] = set
		}
	}
	return values
}

func TestEachValueShowsInWhatTheChartRenders(t *testing.T) {
	for _, chart := range []string{charts.Dovetail, charts.CRDs} {
		root, _ := read(t, chart)
		for _, v := range root.values() {
			t.Run(chart+" "+v.String(), func(t *testing.T) {
				base := func() map[string]any {
					values := map[string]any{}
					if chart == charts.Dovetail {
						values = with([]string{"settings", "clusterName"}, "test")
					}
					section := root.Properties.schemas[v.path[0]]
					if section.Properties.schemas["enabled"] != nil && v.path[1] != "enabled" {
						merge(values, with([]string{v.path[0], "enabled"}, true))
					}
					return values
				}
				before, err := render(base(), chart)
				require.NoError(t, err)
				after, err := render(merge(base(), with(v.path, v.schema.Examples[0])), chart)
				require.NoError(t, err)
				last := v.path[len(v.path)-1]
				if last == "enabled" || last == "create" || last == "eniConfig" || last == "karpenter" { // it is whether there are objects
					require.NotEqual(t, len(before), len(after))
					return
				}
				was := flat(before)
				var changed []string
				for line := range flat(after) {
					if !was[line] {
						changed = append(changed, line)
					}
				}
				if last == "keep" { // on by default: it is what went that shows
					require.Equal(t, len(was)-len(before), len(flat(after)), "an annotation of each")
					return
				}
				require.NotEmpty(t, changed, "it changes nothing")
				for _, scalar := range scalars(v.schema.Examples[0]) {
					require.Contains(t, strings.Join(changed, "\n"), scalar)
				}
			})
		}
	}
}

func TestTheChartRefusesWhatItDoesNotKnow(t *testing.T) {
	for path, set := range map[string]any{
		"settings.clusterNam":            "typo",
		"settings.featureGates.spot":     true,
		"settings.isolatedVPC":           "yes",
		"settings.preferencePolicy":      "Sometimes",
		"settings.batchIdleDuration":     "10",
		"settings.clusterEndpoint":       "http://example.com",
		"settings.reservedENIs":          "one",
		"controller.replicas":            0,
		"controller.metricsPort":         70000,
		"controller.env":                 []any{map[string]any{"value": "of no name"}},
		"controller.tolerations":         []any{map[string]any{"key": "a", "opertor": "Exists"}},
		"controller.resources":           map[string]any{"request": map[string]any{"cpu": 1}},
		"agent.privileged":               "true",
		"agent.cniBinDir":                "opt/cni/bin",
		"agent.podLabels":                map[string]any{"app": true},
		"images.pullPolicy":              "Sometimes",
		"networkPolicy.metricsFrom":      map[string]any{},
		"serviceMonitor.relabelings":     []any{},
		"podMonitor.interval":            30,
		"controller.serviceAccount.name": "Not_A_Name",
	} {
		t.Run(path, func(t *testing.T) {
			values := merge(with([]string{"settings", "clusterName"}, "test"), with(strings.Split(path, "."), set))
			_, err := render(values, charts.Dovetail)
			require.Error(t, err)
			parts := strings.Split(path, ".")
			require.Contains(t, err.Error(), parts[len(parts)-1], "the message names it")
		})
	}
	_, err := render(with([]string{"setings", "clusterName"}, "test"), charts.Dovetail)
	require.ErrorContains(t, err, "setings")
	_, err = render(map[string]any{"karpentr": false}, charts.CRDs)
	require.ErrorContains(t, err, "karpentr")
}

func TestZeroIsAValue(t *testing.T) {
	objects, err := render(merge(with([]string{"settings", "clusterName"}, "test"), with([]string{"settings", "vmMemoryOverheadPercent"}, 0)), charts.Dovetail)
	require.NoError(t, err)
	for _, object := range objects {
		if object.GetKind() != "Deployment" {
			continue
		}
		containers, _, _ := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
		env := containers[0].(map[string]any)["env"].([]any)
		require.True(t, slices.ContainsFunc(env, func(e any) bool {
			return reflect.DeepEqual(e, map[string]any{"name": "VM_MEMORY_OVERHEAD_PERCENT", "value": "0"})
		}))
	}
}
