// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"cmp"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// mapping of what is called otherwise on the stage: ids of the VPC and what is in it, zones and the Region.
type mapping map[string]string

// mapZones gives each zone one of the stage's: itself where the stage has it, else the next one that is free.
func mapZones(zones, stage []string) mapping {
	m := mapping{}
	free := slices.DeleteFunc(slices.Clone(stage), func(zone string) bool { return slices.Contains(zones, zone) })
	for _, zone := range zones {
		switch {
		case slices.Contains(stage, zone):
			m[zone] = zone
		case len(free) > 0:
			m[zone], free = free[0], free[1:]
		}
		if region, here := cli.Region(zone), cli.Region(m[zone]); region != "" && here != "" {
			m[region] = here
		}
	}
	return m
}

// of returns what something is called on the stage.
func (m mapping) of(name string) string {
	if now, ok := m[name]; ok {
		return now
	}
	return name
}

// object as the stage has it: strings that are a mapped name as a whole are replaced, wherever they stand, also as keys.
func (m mapping) object(object client.Object) (client.Object, error) {
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var content any
	if err := json.Unmarshal(raw, &content); err != nil {
		return nil, err
	}
	if raw, err = json.Marshal(m.value(content)); err != nil {
		return nil, err
	}
	mapped := reflect.New(reflect.TypeOf(object).Elem()).Interface().(client.Object)
	return mapped, json.Unmarshal(raw, mapped)
}

func (m mapping) value(value any) any {
	switch v := value.(type) {
	case string:
		return m.of(v)
	case []any:
		for i := range v {
			v[i] = m.value(v[i])
		}
	case map[string]any:
		mapped := make(map[string]any, len(v))
		for key, inner := range v {
			mapped[m.of(key)] = m.value(inner)
		}
		return mapped
	}
	return value
}

// back puts the cluster's names into a text from the stage.
func (m mapping) back(text string) string {
	changed := slices.DeleteFunc(slices.Collect(maps.Keys(m)), func(was string) bool { return was == "" || m[was] == was })
	// The longest first: a zone's name begins with its Region's.
	slices.SortFunc(changed, func(a, b string) int { return cmp.Or(len(m[b])-len(m[a]), strings.Compare(a, b)) })
	var pairs []string
	for _, was := range changed {
		pairs = append(pairs, m[was], was)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
