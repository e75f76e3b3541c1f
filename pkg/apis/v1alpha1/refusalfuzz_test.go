// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Whoever may write a Node's annotations decides what the controller reads here.
func FuzzARefusalIsReadOrRefused(f *testing.F) {
	f.Add(v1alpha1.PodSubnetRefusal{Subnet: "subnet-0ab", Code: "InsufficientCidrBlocks", At: time.Unix(0, 1)}.String())
	f.Add("subnet=a,code=b,at=2006-01-02T15:04:05+07:00,more=c")
	f.Add("subnet=,code=b,at=x")
	f.Add("=,=")
	f.Fuzz(func(t *testing.T, value string) {
		refusal, err := v1alpha1.ParsePodSubnetRefusal(value)
		if err != nil {
			require.LessOrEqual(t, len(err.Error()), 500, "the whole annotation is in the message")
			return
		}
		if year := refusal.At.UTC().Year(); year < 0 || year > 9999 {
			return // RFC 3339 has no such years, into which only a time zone leads
		}
		again, err := v1alpha1.ParsePodSubnetRefusal(refusal.String())
		require.NoError(t, err)
		require.Equal(t, refusal.Subnet, again.Subnet)
		require.Equal(t, refusal.Code, again.Code)
		require.True(t, refusal.At.Equal(again.At))
	})
}
