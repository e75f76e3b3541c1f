// SPDX-License-Identifier: Apache-2.0

// Package controlplanetest gives tests a real API server.
package controlplanetest

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
)

// Start starts etcd and kube-apiserver on loopback for the time of the test and returns the configuration of a cluster
// administrator. No controllers run: no namespace gets a service account, nothing is collected.
func Start(t testing.TB) *rest.Config {
	t.Helper()
	return start(t, controlplane.Options{}).RESTConfig()
}

// StartIPv6 is Start with Services of IPv6.
func StartIPv6(t testing.TB) *rest.Config {
	t.Helper()
	return start(t, controlplane.Options{
		ServiceCIDR: netip.MustParsePrefix("fd30:1c53:5f8a::/108"), Advertise: netip.MustParseAddr("fd00::1"), // nobody goes there
	}).RESTConfig()
}

// StartFull starts kube-controller-manager and kube-scheduler too, and returns the control plane.
func StartFull(t testing.TB) *controlplane.ControlPlane {
	t.Helper()
	return start(t, controlplane.Options{Controllers: true})
}

// BinDir is the repository's bin folder. Tests run in the folder of their package, and their binaries need not know where it is
// (-trimpath).
func BinDir() string {
	dir, err := os.Getwd()
	for root := dir; err == nil && root != "/"; root = filepath.Dir(root) {
		if _, missing := os.Stat(filepath.Join(root, "go.mod")); missing == nil {
			return filepath.Join(root, "bin")
		}
	}
	return filepath.Join(dir, "bin")
}

func start(t testing.TB, opts controlplane.Options) *controlplane.ControlPlane {
	t.Helper()
	opts.Dir, opts.BinDir = t.TempDir(), BinDir()
	require.NoError(t, controlplane.CheckBuilt(opts.BinDir))
	cp, err := controlplane.Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(cp.Stop)
	return cp
}
