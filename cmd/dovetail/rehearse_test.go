// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

func TestARehearsalSaysWhatItLacks(t *testing.T) {
	change := filepath.Join(t.TempDir(), "network.yaml")
	require.NoError(t, os.WriteFile(change, []byte("apiVersion: dovetail.dev/v1alpha1\nkind: PodNetwork\nmetadata: {name: default}\n"), 0o600))
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no source":         {nil, "at least one of the flags"},
		"two sources":       {[]string{"--from-cluster", "--from-dir", "x"}, "none of the others can be"},
		"another output":    {[]string{"--from-dir", t.TempDir(), "-o", "yaml"}, "the only other output is json"},
		"no change there":   {[]string{"--from-dir", t.TempDir(), "-f", "/nonexistent"}, "no such file"},
		"an empty folder":   {[]string{"--from-dir", t.TempDir()}, "has no vpc.yaml"},
		"nobody answers":    {[]string{"--from-cluster", "--server", "http://127.0.0.1:1"}, "cannot be reached"},
		"an unknown change": {[]string{"--from-dir", t.TempDir(), "-f", "rehearse_test.go"}, "rehearse_test.go: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, append([]string{"rehearse"}, test.args...)...)
			require.ErrorContains(t, err, test.want)
		})
	}
	t.Run("a cluster without Karpenter", func(t *testing.T) {
		useCluster(t, controlplanetest.Start(t))
		_, err := run(t, "rehearse", "--from-cluster", "-f", change)
		require.ErrorContains(t, err, "this cluster has no NodePools")
	})
	t.Run("a VPC that may not be read", func(t *testing.T) {
		e := newExhausted(t)
		c := useCluster(t, chartstest.StartAPIServer(t))
		e.cluster(c, true)
		withoutCredentials(t)
		_, err := run(t, "rehearse", "--from-cluster", "-f", change)
		require.ErrorContains(t, err, "the cluster's VPC cannot be read (EC2: the VPC, its subnets and prices: there are no AWS credentials")
	})
}
