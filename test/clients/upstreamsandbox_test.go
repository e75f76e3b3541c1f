// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

const systemNamespace = "kube-system"

// newUpstreamSandbox starts a cluster without Dovetail, as EKS gives it, in which the image named controller is upstream's.
func newUpstreamSandbox(t *testing.T) (s *scenario.Sandbox, dir string) {
	t.Helper()
	return newBareSandbox(t, upstreamPrograms(t))
}

// newBareSandbox starts a cluster as EKS gives it, whose images are the programs of the folder, by name.
func newBareSandbox(t *testing.T, programs string) (s *scenario.Sandbox, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dovetail-clients-")
	require.NoError(t, err)
	s, took, err := scenario.Up(t.Context(), scenario.Options{
		Dir: dir, BinDir: programs, Examples: "testdata/upstream", UpFlags: []string{"--bare"},
	})
	down := func() error { // a daemon: it would outlive the test
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return s.Down(ctx)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		_ = down() // nobody waits for more
		os.Exit(1)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs are in %s\n%s", dir, s.Diagnose(context.Background()))
		}
		assert.NoError(t, down())
		if !t.Failed() {
			assert.NoError(t, os.RemoveAll(dir))
		}
	})
	require.NoError(t, err)
	t.Logf("sandbox up after %.1fs", took.Seconds())
	return s, dir
}

// upstreamPrograms returns a folder of programs in which upstream's controller has the name that images of controllers have.
func upstreamPrograms(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(binDir(), "clients-") // links need the same file system
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	entries, err := os.ReadDir(binDir())
	require.NoError(t, err)
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case !entry.Type().IsRegular() || name == "controller":
			continue
		case name == "upstream-controller":
			name = "controller"
		}
		require.NoError(t, os.Link(filepath.Join(binDir(), entry.Name()), filepath.Join(dir, name)))
	}
	require.FileExists(t, filepath.Join(dir, "controller"), "make test-clients builds it")
	return dir
}

// startNetwork serves nodes until the test ends.
func startNetwork(t *testing.T, s *scenario.Sandbox) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { serveNetwork(ctx, t, s) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}

// installUpstream installs upstream's charts with the values that this sandbox needs, and an image.
func installUpstream(t *testing.T, s *scenario.Sandbox, dir, image string) {
	t.Helper()
	printed, err := s.Dovetail(t.Context(), "values")
	require.NoError(t, err)
	var sandbox struct {
		Settings   struct{ ClusterName string }
		Controller map[string]any
	}
	require.NoError(t, yaml.Unmarshal([]byte(printed), &sandbox))
	values, err := yaml.Marshal(map[string]any{
		"replicas": 1, "hostNetwork": true,
		"settings": map[string]any{
			"clusterName": sandbox.Settings.ClusterName, "interruptionQueue": sandbox.Settings.ClusterName, "eksControlPlane": true,
		},
		"controller": map[string]any{
			"env":   sandbox.Controller["env"],
			"image": map[string]any{"repository": "sandbox.invalid/karpenter/" + image, "tag": "upstream", "digest": ""},
		},
	})
	require.NoError(t, err)
	file := filepath.Join(dir, "upstream-values.yaml")
	require.NoError(t, os.WriteFile(file, values, 0o600))
	charts := filepath.Join(binDir(), "upstream-charts")
	helm(t, s, dir, "install", "karpenter-crd", filepath.Join(charts, "karpenter-crd"), "--wait")
	helm(t, s, dir, "install", "karpenter", filepath.Join(charts, "karpenter"), "--values", file, "--wait", "--timeout", "3m")
}

// helm runs Helm with a home of its own.
func helm(t *testing.T, s *scenario.Sandbox, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(binDir(), "tools", "helm"), append(args, "--namespace", systemNamespace)...)
	cmd.Env = append(s.Env(), "HOME="+dir, "HELM_CACHE_HOME="+dir+"/helm", "HELM_CONFIG_HOME="+dir+"/helm", "HELM_DATA_HOME="+dir+"/helm")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
