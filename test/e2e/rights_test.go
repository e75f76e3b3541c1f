// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
)

// seldom are rights that these tests do not come to need, with who does.
var seldom = map[string]string{}

// checkRights fails a run of all tests after which a right of the chart's roles was not used: what nobody needs, nobody should have. That
// what they need is there, the tests themselves have shown: the API server refuses the rest.
func checkRights(ctx context.Context) error {
	if flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" {
		return nil
	}
	unused, err := sandbox.UnusedRights(ctx)
	if err != nil {
		return fmt.Errorf("rights that were used: %w", err)
	}
	var problems []string
	for _, r := range unused {
		if seldom[r] == "" {
			problems = append(problems, r)
		}
	}
	for r := range seldom {
		if !slices.Contains(unused, r) {
			problems = append(problems, r+" is not given, or used after all")
		}
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		return fmt.Errorf("rights in charts/dovetail that nothing used:\n%s", strings.Join(problems, "\n"))
	}
	return nil
}
