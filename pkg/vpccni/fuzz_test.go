// SPDX-License-Identifier: Apache-2.0

package vpccni

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzAValueMeansTheSameWhenItIsWrittenAsRead: `plan` and the node class's condition compare what aws-node was told in the form that it reads.
func FuzzAValueMeansTheSameWhenItIsWrittenAsRead(f *testing.F) {
	for _, value := range []string{"", "true", "T", "0", "-1", "007", "prng", "hashrandom", "none", "10.0.0.0/8, 10.1.2.3/8,::/0,x", "10.0.0.1/33", "99999999999999999999", "0.0.0.0/0,,0.0.0.0/0"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for name, read := range map[string]canonical{"boolean": boolean, "count": count(1), "text": text, "randomness": randomness, "cidrs": cidrs} {
			once, ok := read(value)
			if !ok {
				continue
			}
			twice, ok := read(once)
			require.True(t, ok || once == "", "%s: %q is read as %q, and that is not taken", name, value, once)
			require.Equal(t, once, twice, name)
		}
		list, _ := cidrs(value)
		if list == "" {
			return
		}
		for _, one := range strings.Split(list, ",") {
			prefix, err := netip.ParsePrefix(one)
			require.NoError(t, err)
			require.True(t, prefix.Addr().Is4() && prefix == prefix.Masked())
		}
	})
}
