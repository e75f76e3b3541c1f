// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// FuzzARecordIsReadOrRefused: a migration goes on after a restart from annotations of Nodes, which others may write too.
func FuzzARecordIsReadOrRefused(f *testing.F) {
	for _, encoded := range []string{
		`{"migration":"old"}`, `null`, `[]`, `{"migration":7}`, `{"since":"x"}`, `{"since":"9999-12-31T23:59:59-23:59"}`,
		`{"migration":"old","cordonedAt":"2026-01-02T03:04:05Z","since":"2026-01-02T03:04:05+07:00","owners":[{"kind":"ReplicaSet","namespace":"a","name":"b","ready":-1}],"drained":null,"terminated":true,"group":"g"}`,
	} {
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		node := &corev1.Node{}
		node.Name = "node-1"
		node.Annotations = map[string]string{v1alpha1.AnnotationNodeMigration: encoded}
		r, err := recordOf(node)
		if err != nil {
			require.Contains(t, err.Error(), "annotation "+v1alpha1.AnnotationNodeMigration+" of node node-1")
			return
		}
		require.False(t, r.inFlight() && r.done())
		_ = r.ended()
		node.Annotations[v1alpha1.AnnotationNodeMigration] = r.encode()
		again, err := recordOf(node)
		require.NoError(t, err)
		require.Equal(t, r.encode(), again.encode())
		require.Equal(t, r.inFlight(), again.inFlight())
		require.Equal(t, r.Owners, again.Owners)
	})
}
