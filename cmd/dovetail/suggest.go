// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// A name this many edits away is more likely meant than not.
	nearEdits = 2
	// suggestions bounds the near matches that an error names.
	suggestions = 4
)

// unknownInstanceType says which names are near: the nearest ones a slip of the finger away, else the sizes of the same family.
func unknownInstanceType(name string, known []string) error {
	family, _, _ := strings.Cut(name, ".")
	nearest := nearEdits
	for _, candidate := range known {
		nearest = min(nearest, edits(name, candidate))
	}
	near := slices.DeleteFunc(slices.Clone(known), func(candidate string) bool { return edits(name, candidate) > nearest })
	if len(near) > 0 {
		return fmt.Errorf("unknown instance type %q: did you mean %s?", name, strings.Join(near[:min(len(near), suggestions)], ", "))
	}
	sizes := slices.DeleteFunc(slices.Clone(known), func(candidate string) bool { return !strings.HasPrefix(candidate, family+".") })
	if len(sizes) > 0 {
		return fmt.Errorf("unknown instance type %q: the %s family has %s", name, family, strings.Join(sizes, ", "))
	}
	return fmt.Errorf("unknown instance type %q: max-pods --all prints the %d that are known", name, len(known))
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	previous := make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := range len(a) {
		current := make([]int, len(b)+1)
		current[0] = i + 1
		for j := range len(b) {
			substitution := previous[j]
			if a[i] != b[j] {
				substitution++
			}
			current[j+1] = min(previous[j+1]+1, current[j]+1, substitution)
		}
		previous = current
	}
	return previous[len(b)]
}
