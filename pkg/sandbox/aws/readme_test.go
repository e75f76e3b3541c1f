// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheReadmeNamesEveryCall(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for name := range ec2Actions() {
		require.Contains(t, string(text), name)
	}
}
