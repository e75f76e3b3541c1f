// SPDX-License-Identifier: Apache-2.0

package diagnosis

import (
	"fmt"
	"io"
)

// Print the answer for people.
func (a Answer) Print(w io.Writer) {
	fmt.Fprintf(w, "pod %s", a.Pod)
	if a.Node != "" {
		fmt.Fprintf(w, " on node %s", a.Node)
	}
	fmt.Fprintln(w)
	for i, f := range a.Findings {
		if i == 1 {
			fmt.Fprintln(w, "\nalso:")
		}
		f.Print(w)
	}
}

// Print one finding: what, who says so, and what to do.
func (f Finding) Print(w io.Writer) {
	fmt.Fprintf(w, "  %s: %s\n", f.Cause, f.Message)
	switch {
	case f.Object != "" && f.Reason != "":
		fmt.Fprintf(w, "    says  %s (%s)\n", f.Object, f.Reason)
	case f.Object != "":
		fmt.Fprintf(w, "    says  %s\n", f.Object)
	}
	if f.Fix != "" {
		fmt.Fprintf(w, "    do    %s\n", f.Fix)
	}
}
