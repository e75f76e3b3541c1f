// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// result is a line of unittest: name, class and outcome.
var result = regexp.MustCompile(`(?m)^test_(\w+) \(\w+\.(\w+)\.\w+\)(?: .*)? \.\.\. (.*)$`)

func TestBotocore(t *testing.T) {
	_, output, code := run(t, environment(t, "AWS_ENDPOINT_URL="+newSimulator(t).url), python, "-W", "ignore::ResourceWarning", "botocore_checks.py")
	for _, found := range result.FindAllStringSubmatch(output, -1) {
		t.Run(strings.ToLower(found[2])+"/"+found[1], func(t *testing.T) {
			require.Equal(t, "ok", found[3])
		})
	}
	require.Zero(t, code, "\n"+output)
	require.NotEmpty(t, result.FindString(output), output)
}
