// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Objection to what was observed at one time. What is in order a moment later was on its way; so each invariant says how long that may take.
type Objection struct {
	Invariant string
	// Key tells what it is about: the same at each look.
	Key string
	// Text is the evidence.
	Text string
	// Bound is how long it may last, without a break.
	Bound time.Duration
}

// Violation is an objection that lasted longer than it may.
type Violation struct {
	Objection
	Lasted time.Duration
}

func (v Violation) Error() string {
	return fmt.Sprintf("%s, for %s (at most %s): %s", v.Invariant, v.Lasted.Round(time.Second), v.Bound, v.Text)
}

// longestStep is what one look at most adds to the age of an objection: nobody knows what was between looks that are far apart.
const longestStep = 8 * time.Second

// tracker follows objections from look to look.
type tracker struct {
	last time.Time
	// ages of standing objections, by invariant and key.
	ages map[[2]string]time.Duration
	// longest objection to each invariant so far.
	longest map[string]Violation
}

func newTracker() *tracker {
	return &tracker{ages: map[[2]string]time.Duration{}, longest: map[string]Violation{}}
}

// see the objections of a look, and return those that have lasted too long: at least two looks.
func (t *tracker) see(at time.Time, objections []Objection) (violations []Violation) {
	step := time.Duration(0)
	if !t.last.IsZero() {
		step = min(at.Sub(t.last), longestStep)
	}
	t.last = at
	ages := map[[2]string]time.Duration{}
	for _, o := range objections {
		key := [2]string{o.Invariant, o.Key}
		age, standing := t.ages[key]
		if standing {
			age += step
		}
		if _, twice := ages[key]; !twice && standing && age >= o.Bound {
			violations = append(violations, Violation{Objection: o, Lasted: age})
		}
		ages[key] = age
		if standing && age > t.longest[o.Invariant].Lasted {
			t.longest[o.Invariant] = Violation{Objection: o, Lasted: age}
		}
	}
	t.ages = ages
	slices.SortStableFunc(violations, func(a, b Violation) int { return cmp.Compare(a.Invariant, b.Invariant) })
	return violations
}

// print what came closest to a violation.
func (t *tracker) print(w io.Writer) {
	fmt.Fprintln(w, "  longest exceptions:")
	for _, invariant := range slices.Sorted(maps.Keys(t.longest)) {
		v := t.longest[invariant]
		fmt.Fprintf(w, "    %s: %s of %s: %s\n", invariant, v.Lasted.Round(time.Second), v.Bound, v.Text)
	}
}
