// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"sigs.k8s.io/yaml"
)

// skippedSpecs are those that do not run unless somebody changes the list.
type skippedSpecs []struct {
	// Spec is the whole text: a list that matches more than it names would hide new specs.
	Spec   string `json:"spec"`
	Reason string `json:"reason"`
}

func readSkipped(path string) (skippedSpecs, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list skippedSpecs
	if err := yaml.UnmarshalStrict(content, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// mark the specs of the list. An entry without a reason, or of a spec that the suite does not have, is an error.
func (l skippedSpecs) mark(specs []spec) error {
	byText := map[string]*spec{}
	for i := range specs {
		byText[specs[i].text] = &specs[i]
	}
	for _, entry := range l {
		s := byText[entry.Spec]
		if s == nil {
			return fmt.Errorf("skipped specs: the suite has no %q", entry.Spec)
		}
		if entry.Reason == "" {
			return fmt.Errorf("skipped specs: %q has no reason", entry.Spec)
		}
		s.skipped = entry.Reason
	}
	return nil
}
