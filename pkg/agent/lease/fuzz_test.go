// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
)

// FuzzALeaseFileIsReadOrRefused puts anything where a lease is. Its address may never be given to another, whatever it says.
func FuzzALeaseFileIsReadOrRefused(f *testing.F) {
	f.Add([]byte(`{"version":1,"address":"100.64.0.16","containerID":"c1","ifName":"eth0","pod":"default/p1","time":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"address":7}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		s, dir := open(t)
		const address = "100.64.0.16"
		require.NoError(t, os.WriteFile(filepath.Join(dir, "leases", address), content, 0o600))
		other := acquire(t, s, 2, epoch)
		require.NotEqual(t, address, other.String())
		leases, err := s.List()
		if err == nil {
			require.Len(t, leases, 2)
		} else {
			require.Nil(t, leases)
		}
		if err := s.Collect([]lease.Owner{owner(2)}, epoch); err != nil {
			require.FileExists(t, filepath.Join(dir, "leases", address), "what is not understood is not touched")
		}
		held, err := s.Get(owner(2))
		require.NoError(t, err)
		require.Equal(t, other, held.Address)
	})
}
