// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzADirectoryIsReadOrRefused takes anything for a manifest and a VPC's shape. What can be rehearsed says the same when it was written and is
// read again: that is how a shape is taken from one place to another.
func FuzzADirectoryIsReadOrRefused(f *testing.F) {
	shape, err := os.ReadFile("testdata/small/vpc.yaml")
	require.NoError(f, err)
	var all []byte
	for _, name := range []string{"karpenter.yaml", "workloads.yaml", "nodes.json"} {
		manifests, err := os.ReadFile(filepath.Join("testdata/small", name))
		require.NoError(f, err)
		f.Add(manifests, shape)
		all = append(append(all, manifests...), "\n---\n"...)
	}
	f.Add(all, shape)
	f.Add([]byte("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: a}}, 7]\n"), []byte("cidrs: [10.0.0.0/33]\n"))
	f.Add([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: [a]}\n"), []byte("subnets: [{id: a, zone: b, cidr: ::/0}]\ncidrs: [::/0]\n"))
	f.Fuzz(func(t *testing.T, manifests, shape []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "all.yaml"), manifests, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, vpcFile), shape, 0o600))
		c, err := FromDir(dir)
		if err != nil {
			require.Nil(t, c)
			return
		}
		if c.Check() != nil {
			return
		}
		again := filepath.Join(t.TempDir(), "again")
		require.NoError(t, c.Write(again, false))
		second, err := FromDir(again)
		require.NoError(t, err)
		require.NoError(t, second.Check())
		require.Len(t, second.Objects(), len(c.Objects()))
		require.Len(t, second.Nodes, len(c.Nodes))
		require.Equal(t, c.Pods(), second.Pods())
		require.Equal(t, c.VPC, second.VPC)
	})
}
