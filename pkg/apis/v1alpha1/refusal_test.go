// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

func TestARefusalComesBackAsItWasWritten(t *testing.T) {
	written := v1alpha1.PodSubnetRefusal{Subnet: "subnet-0ab", Code: "InsufficientCidrBlocks", At: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)}
	require.Equal(t, "subnet=subnet-0ab,code=InsufficientCidrBlocks,at=2026-01-02T03:04:05.678Z", written.String())
	read, err := v1alpha1.ParsePodSubnetRefusal(written.String())
	require.NoError(t, err)
	require.Equal(t, written, read)
	read, err = v1alpha1.ParsePodSubnetRefusal(written.String() + ",more=of a newer agent")
	require.NoError(t, err)
	require.Equal(t, written, read)
	for _, value := range []string{"", "subnet-0ab", "subnet=subnet-0ab,code=X", "subnet=subnet-0ab,code=X,at=yesterday", "code=X,at=2026-01-02T03:04:05Z"} {
		_, err := v1alpha1.ParsePodSubnetRefusal(value)
		require.ErrorContains(t, err, "is no refusal such as subnet=", value)
	}
}
