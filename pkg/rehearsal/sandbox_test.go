// SPDX-License-Identifier: Apache-2.0

package rehearsal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/rehearsal"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// deadline ends a test that hangs; it is no expectation.
const deadline = 5 * time.Minute

// command of the built command line, whose temporary files go where the test can see them.
func command(t *testing.T, env []string, args ...string) (cmd *exec.Cmd, temporary string) {
	t.Helper()
	binary := filepath.Join(controlplanetest.BinDir(), "dovetail")
	require.FileExists(t, binary, "run make build controlplane")
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, binary, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	temporary = t.TempDir()
	cmd.Env = append(append(os.Environ(), env...), "TMPDIR="+temporary)
	return cmd, temporary
}

// rehearse and return the report. Nothing stays on disk.
func rehearse(t *testing.T, env []string, wantCode int, args ...string) rehearsal.Report {
	t.Helper()
	cmd, temporary := command(t, env, append([]string{"rehearse", "--latency", "fast", "-o", "json"}, args...)...)
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	err := cmd.Run()
	t.Logf("%s", progress.String())
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.Equal(t, wantCode, cmd.ProcessState.ExitCode())
	var report rehearsal.Report
	require.NoError(t, json.Unmarshal(out.Bytes(), &report), out.String())
	var text bytes.Buffer
	report.Print(&text)
	t.Logf("%s", text.String())
	requireEmpty(t, temporary)
	return report
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestARehearsalFromADirectory(t *testing.T) {
	report := rehearse(t, nil, 0, "--from-dir", "testdata/small", "-f", "testdata/small.yaml")
	require.True(t, report.Migration.Complete, "%v", report.Migration.Why)
	require.Equal(t, 10, report.Before.Total)
	require.Equal(t, []rehearsal.NodeCount{
		{InstanceType: "m5.xlarge", Zone: "eu-west-1a", Count: 2}, {InstanceType: "m5.xlarge", Zone: "eu-west-1b", Count: 1}, {InstanceType: "m5.xlarge", Zone: "eu-west-1c", Count: 1},
		{NodePool: "default", InstanceType: "m5.xlarge", Zone: "eu-west-1a", Count: 2}, {NodePool: "default", InstanceType: "m5.xlarge", Zone: "eu-west-1b", Count: 2},
		{NodePool: "default", InstanceType: "m5.xlarge", Zone: "eu-west-1c", Count: 2},
	}, report.Before.Nodes, "the nodes as they are, in the cluster's own zones")
	require.Equal(t, 40+19+10, report.Before.Running)
	for _, node := range report.After.Nodes {
		require.Equal(t, lo.Ternary(node.NodePool == "", "", "default"), node.PodNetwork, "%+v", node)
	}
	require.Equal(t, 40+19+report.After.Total, report.After.Running)
	require.Equal(t, 6, report.Migration.Ended)
	require.Equal(t, report.After.Total-4, report.Migration.Launched)

	for _, state := range []rehearsal.State{report.Before, report.After} {
		require.Equal(t, 1, state.Waiting)
		require.Len(t, state.Unplaced, 1)
		require.Equal(t, "shop/huge", state.Unplaced[0].Workload)
		require.NotEmpty(t, state.Unplaced[0].Findings)
		require.Positive(t, state.USDPerHour)
	}
	reasons := lo.Map(report.Migration.Waited, func(w rehearsal.Wait, _ int) string { return w.Reason })
	require.Contains(t, reasons, rehearsal.WaitEnding)

	subnets := lo.SliceToMap(report.Before.Subnets, func(s rehearsal.SubnetUse) (string, rehearsal.SubnetUse) { return s.ID, s })
	require.Equal(t, 65+2*30+1, subnets["subnet-0aaaaaaaaaaaaaab0"].Used, "what others have taken, what two nodes hold, and one that Karpenter does not own")
	require.Equal(t, 65+2*30+2, subnets["subnet-0aaaaaaaaaaaaaaa0"].Used)
	for _, after := range report.After.Subnets {
		if strings.HasPrefix(after.CIDR, "10.20.") {
			require.Less(t, after.Used, 65+20, "a node has one address there now: %+v", after)
		} else {
			require.Positive(t, after.SetAside, "%+v", after)
		}
	}
}

func TestAnInterruptedRehearsalLeavesNothing(t *testing.T) {
	cmd, temporary := command(t, nil, "rehearse", "--latency", "fast", "--from-dir", "testdata/small", "-f", "testdata/small.yaml")
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stderr = writer
	require.NoError(t, cmd.Start())
	writer.Close()
	seen, buffer := "", make([]byte, 4096)
	for !strings.Contains(seen, "the VPC is there") {
		n, err := reader.Read(buffer)
		require.NoError(t, err, seen)
		seen += string(buffer[:n])
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	requireEmpty(t, temporary)
}

// TestARehearsalOfARunningCluster rehearses with a sandbox's cluster, whose VPC has the very tags of the stage's own.
func TestARehearsalOfARunningCluster(t *testing.T) {
	dir := t.TempDir()
	sandbox := func(args ...string) string {
		cmd, _ := command(t, nil, append([]string{"sandbox", args[0], "--dir", dir}, args[1:]...)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	sandbox("up", "--kubelet", "hollow")
	t.Cleanup(func() {
		_ = exec.Command(filepath.Join(controlplanetest.BinDir(), "dovetail"), "sandbox", "down", "--dir", dir).Run() //nolint:noctx // the test's has ended
	})
	env := []string{}
	for line := range strings.Lines(sandbox("env")) {
		env = append(env, strings.TrimSpace(strings.TrimPrefix(line, "export ")))
	}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "kubeconfig"))
	require.NoError(t, err)
	kube, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	apply(t, kube, "ec2nodeclass.yaml", "nodepool.yaml", "eniconfigs.yaml", "deployment.yaml")
	require.EventuallyWithT(t, func(collect *assert.CollectT) {
		deployment := &appsv1.Deployment{}
		require.NoError(collect, kube.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "web"}, deployment))
		require.EqualValues(collect, 60, deployment.Status.ReadyReplicas)
	}, deadline, time.Second)

	report := rehearse(t, env, 0, "--from-cluster", "-f", "../../examples/podnetwork.yaml")
	require.True(t, report.Migration.Complete, "%v", report.Migration.Why)
	require.GreaterOrEqual(t, report.Before.Total, 4, "the managed node group's, and three of Karpenter's at least")
	require.Equal(t, 60, report.Before.Running)
	require.Equal(t, 60, report.After.Running)
	for _, node := range report.After.Nodes {
		require.Equal(t, lo.Ternary(node.NodePool == "", "", "default"), node.PodNetwork, "%+v", node)
	}

	t.Run("its shape can be taken along", func(t *testing.T) {
		shape := filepath.Join(t.TempDir(), "shape")
		cmd, _ := command(t, env, "rehearse", "--from-cluster", "--write", shape)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		c, err := rehearsal.FromDir(shape)
		require.NoError(t, err)
		require.NoError(t, c.Check())
		require.Len(t, c.Nodes, report.Before.Total)
		require.Len(t, c.VPC.Subnets, 10)
	})
}

// apply examples.
func apply(t *testing.T, kube client.Client, files ...string) {
	t.Helper()
	shape := t.TempDir()
	for _, file := range append(files, "") {
		if file == "" {
			require.NoError(t, os.WriteFile(filepath.Join(shape, "vpc.yaml"), nil, 0o600))
			continue
		}
		content, err := os.ReadFile(filepath.Join("../../examples", file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(shape, file), content, 0o600))
	}
	c, err := rehearsal.FromDir(shape)
	require.NoError(t, err)
	for i := range c.NodeClasses {
		c.NodeClasses[i].Spec.Role = "DovetailNodeRole-dovetail-sandbox"
	}
	for _, object := range c.Objects() {
		require.NoError(t, kube.Create(t.Context(), object), object.GetName())
	}
}
