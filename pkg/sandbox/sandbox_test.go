// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

// deadline ends a test that hangs; it is no expectation.
const deadline = 2 * time.Minute

// dovetail runs the built command line, as a user does.
func dovetail(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline)
	defer cancel()
	binary := filepath.Join(controlplanetest.BinDir(), "dovetail")
	require.FileExists(t, binary, "run make build controlplane")
	cmd := exec.CommandContext(ctx, binary, append([]string{"sandbox"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestASandboxFromUpToDown is one story: each step stands on those before.
func TestASandboxFromUpToDown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("a long name ", 10)) // longer than a socket's address may be
	mounts := hostMounts(t)
	out, errs, code := dovetail(t, "", "up", "--dir", dir)
	require.Zero(t, code, errs)
	t.Cleanup(func() { dovetail(t, "", "down", "--dir", dir) })
	require.Contains(t, out, "✓ control plane")
	s, err := sandbox.Open(dir)
	require.NoError(t, err)

	t.Run("a second up leaves the first alone", func(t *testing.T) {
		_, errs, code := dovetail(t, "", "up", "--dir", dir)
		require.Equal(t, 1, code)
		require.Contains(t, errs, "running already")
		_, err := sandbox.Open(dir)
		require.NoError(t, err)
	})
	t.Run("the cluster is reached from the host, and knows its node", func(t *testing.T) {
		config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
		require.NoError(t, err)
		nodes, err := kubernetes.NewForConfigOrDie(config).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{LabelSelector: "eks.amazonaws.com/nodegroup=system"})
		require.NoError(t, err)
		require.Len(t, nodes.Items, 1)
		require.Contains(t, nodes.Items[0].Spec.ProviderID, "aws:///us-east-1a/i-")
	})
	t.Run("the AWS APIs are reached from the host, and name what manifests name", func(t *testing.T) {
		config := awsConfig(s)
		subnets, err := ec2.NewFromConfig(config).DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-0d0ec0de000000a00", "subnet-0d0ec0de0000000c1"}})
		require.NoError(t, err)
		require.Len(t, subnets.Subnets, 2)
		cluster, err := eks.NewFromConfig(config).DescribeCluster(t.Context(), &eks.DescribeClusterInput{Name: aws.String(sandbox.ClusterName)})
		require.NoError(t, err)
		require.Equal(t, controlplane.Version, *cluster.Cluster.Version)
		require.Regexp(t, `^https://10\.0\.[0-2]\.\d+$`, *cluster.Cluster.Endpoint)
	})
	t.Run("env exports what clients read", func(t *testing.T) {
		out, _, code := dovetail(t, "", "env", "--dir", dir)
		require.Zero(t, code)
		seen, err := exec.Command("sh", "-c", `eval "$1"; printf '%s %s' "$AWS_ENDPOINT_URL" "$KUBECONFIG"`, "sh", out).Output()
		require.NoError(t, err)
		require.Equal(t, s.AWS+" "+s.Kubeconfig, string(seen))
	})

	status, err := s.Status(t.Context())
	require.NoError(t, err)
	require.Len(t, status.Instances, 1)
	instance := status.Instances[0].ID
	account, err := s.Account(t.Context())
	require.NoError(t, err)
	require.Len(t, account.Instances, 1)
	require.Equal(t, instance, account.Instances[0].ID)
	require.True(t, slices.ContainsFunc(account.Interfaces, func(i simulator.Interface) bool {
		return i.Attachment != nil && i.Attachment.InstanceID == instance && i.Primary == account.Instances[0].PrivateIP
	}), "addresses are what they were when they were sent")

	t.Run("exec passes standard streams and the exit code", func(t *testing.T) {
		out, errs, code := dovetail(t, "hello", "exec", "--dir", dir, "--", "sh", "-c", "cat; echo oops >&2; exit 7")
		require.Equal(t, "hello", out)
		require.Equal(t, "oops\n", errs)
		require.Equal(t, 7, code)
	})
	t.Run("an instance has its own root, processes and name", func(t *testing.T) {
		out, errs, code := dovetail(t, "", "exec", "--dir", dir, "--instance", instance, "--", "sh", "-c", "hostname; cat /proc/1/comm; ls /opt/cni/bin; ls / | grep -cx -e home -e srv")
		require.Equal(t, 1, code, errs) // of grep, which finds nothing of the host
		require.Equal(t, instance+"\nexe\nportmap\n0\n", out)
	})
	t.Run("an instance reaches the internet with the NAT gateway's address, and the gateway tells whose it was", func(t *testing.T) {
		probe := filepath.Join(controlplanetest.BinDir(), "netprobe")
		out, errs, code := dovetail(t, "", "exec", "--dir", dir, "--instance", instance, "--", probe, "get", "http://"+vpc.InternetHost.String()+"/")
		require.Zero(t, code, errs)
		require.Contains(t, out, "198.51.100.")
		status, err := s.Status(t.Context())
		require.NoError(t, err)
		var sources []string
		for _, translation := range status.Translations {
			if translation.Destination == vpc.InternetHost {
				sources = append(sources, "ip-"+strings.ReplaceAll(translation.Source.String(), ".", "-")+".ec2.internal")
			}
		}
		require.Contains(t, sources, status.Instances[0].Node)
	})
	t.Run("the sandbox survives outages of its API server", func(t *testing.T) {
		config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
		require.NoError(t, err)
		config.Timeout = time.Second // an API server that stands still answers nobody
		nodes := kubernetes.NewForConfigOrDie(config).CoreV1().Nodes()
		for _, flags := range [][]string{nil, {"--kill"}} {
			_, errs, code := dovetail(t, "", append([]string{"fault", "add", "outage", "apiserver", "--dir", dir}, flags...)...)
			require.Zero(t, code, errs)
			_, err = nodes.List(t.Context(), metav1.ListOptions{})
			require.Error(t, err)
			_, errs, code = dovetail(t, "", "fault", "clear", "--dir", dir)
			require.Zero(t, code, errs)
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				list, err := nodes.List(t.Context(), metav1.ListOptions{})
				require.NoError(c, err)
				require.Len(c, list.Items, 1)
			}, deadline, 50*time.Millisecond)
		}
		after, err := s.Status(t.Context())
		require.NoError(t, err)
		require.Equal(t, status.Instances, after.Instances)
	})
	t.Run("an instance that hangs stands still, and goes on", func(t *testing.T) {
		standing := func() string { // the states of all its processes but that which looks
			out, errs, code := dovetail(t, "", "exec", "--dir", dir, "--instance", instance, "--",
				"sh", "-c", `for p in /proc/[0-9]*; do [ "${p#/proc/}" = $$ ] || sed 's/.*) \(.\).*/\1/' $p/stat 2>/dev/null; done | sort -u | tr -d '\n'`)
			require.Zero(t, code, errs)
			return out
		}
		_, errs, code := dovetail(t, "", "fault", "add", "hang", instance, "--dir", dir)
		require.Zero(t, code, errs)
		require.EventuallyWithT(t, func(c *assert.CollectT) { require.Contains(c, standing(), "T") }, deadline, 50*time.Millisecond)
		_, errs, code = dovetail(t, "", "fault", "clear", "--dir", dir)
		require.Zero(t, code, errs)
		require.EventuallyWithT(t, func(c *assert.CollectT) { require.NotContains(c, standing(), "T") }, deadline, 50*time.Millisecond)
	})
	t.Run("an instance that dies is gone with its disk", func(t *testing.T) {
		_, errs, code := dovetail(t, "", "fault", "add", "kill", instance, "--dir", dir)
		require.Zero(t, code, errs)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			status, err := s.Status(t.Context())
			require.NoError(c, err)
			require.Empty(c, status.Instances)
			require.NoDirExists(c, filepath.Join(dir, "instances", instance))
		}, deadline, 50*time.Millisecond)
	})
	t.Run("down ends every process and leaves nothing but logs", func(t *testing.T) {
		_, errs, code := dovetail(t, "", "down", "--dir", dir)
		require.Zero(t, code, errs)
		_, err := sandbox.Open(dir)
		require.ErrorIs(t, err, sandbox.ErrNotRunning)
		require.Empty(t, processesOf(t, dir))
		require.Equal(t, mounts, hostMounts(t))
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, left, 1)
		require.Equal(t, "logs", left[0].Name())

		out, _, code := dovetail(t, "", "down", "--dir", dir)
		require.Zero(t, code)
		require.Contains(t, out, "no sandbox is running")
	})
}

func TestUpNamesTheProgramThatIsMissingAndTheCommandThatBuildsIt(t *testing.T) {
	_, err := sandbox.Up(t.Context(), sandbox.Options{Dir: t.TempDir(), BinDir: t.TempDir(), Latency: "fast"})
	require.ErrorIs(t, err, controlplane.ErrNotBuilt)
	require.ErrorContains(t, err, "make controlplane")
}

func awsConfig(s *sandbox.Sandbox) aws.Config {
	return aws.Config{
		Region: sandbox.Region, BaseEndpoint: aws.String(s.AWS),
		Credentials: credentials.NewStaticCredentialsProvider("sandbox", "sandbox", ""),
	}
}

// hostMounts is how many mounts this process sees.
func hostMounts(t *testing.T) int {
	t.Helper()
	content, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	return bytes.Count(content, []byte("\n"))
}

// processesOf a sandbox are those that name its directory.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var found []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err == nil && bytes.Contains(content, []byte(dir)) { // one that has ended meanwhile is none
			found = append(found, strings.ReplaceAll(string(content), "\x00", " "))
		}
	}
	return found
}
