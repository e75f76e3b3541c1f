// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

// started runs the command line in the background, and returns its output, to be read, and what ends it by the end of its input.
func started(t *testing.T, args ...string) (output io.Reader, end func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(controlplanetest.BinDir(), "dovetail"), append([]string{"sandbox"}, args...)...)
	input, err := cmd.StdinPipe()
	require.NoError(t, err)
	output, err = cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return output, func() {
		input.Close()
		_ = cmd.Wait()
	}
}

func hostLinks(t *testing.T) (names []string) {
	t.Helper()
	links, err := net.Interfaces()
	require.NoError(t, err)
	for _, link := range links {
		names = append(names, link.Name)
	}
	return names
}

// TestTwoSandboxesSideBySideDoNotMeet is one story: both have the same addresses, and each sees its own behind them.
func TestTwoSandboxesSideBySideDoNotMeet(t *testing.T) {
	mounts, links := hostMounts(t), hostLinks(t)
	dirs := []string{t.TempDir(), t.TempDir()}
	var sandboxes []*sandbox.Sandbox
	var instances []string
	for _, dir := range dirs {
		_, errs, code := dovetail(t, "", "up", "--bare", "--dir", dir)
		t.Cleanup(func() { dovetail(t, "", "down", "--dir", dir) })
		require.Zero(t, code, errs)
		s, err := sandbox.Open(dir)
		require.NoError(t, err)
		status, err := s.Status(t.Context())
		require.NoError(t, err)
		sandboxes, instances = append(sandboxes, s), append(instances, status.Instances[0].ID)
	}
	one, two := sandboxes[0], sandboxes[1]
	probe := filepath.Join(controlplanetest.BinDir(), "netprobe")

	t.Run("they share no namespace, no port and no account", func(t *testing.T) {
		for _, kind := range []string{"net", "mnt", "pid", "ipc"} {
			own := map[string]bool{}
			for _, pid := range []string{"self", fmt.Sprint(one.PID), fmt.Sprint(two.PID)} {
				id, err := os.Readlink(filepath.Join("/proc", pid, "ns", kind))
				require.NoError(t, err)
				own[id] = true
			}
			require.Len(t, own, 3, kind)
		}
		require.NotEqual(t, one.AWS, two.AWS)
		require.NotEqual(t, one.APIServer, two.APIServer)
		_, err := ec2.NewFromConfig(awsConfig(two)).DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: instances[:1]})
		require.ErrorContains(t, err, "InvalidInstanceID.NotFound")
		require.Equal(t, mounts, hostMounts(t))
		require.Equal(t, links, hostLinks(t))
	})

	t.Run("a packet to an address that both have stays in its own", func(t *testing.T) {
		for host, address := range map[string]string{"internet": vpc.InternetHost.String(), "peer": sandbox.PeerHost.String()} {
			address += ":8081"
			output, end := started(t, "exec", "--dir", one.Dir, "--host", host, "--", probe, "listen", address)
			defer end()
			line, err := bufio.NewReader(output).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "listening "+address+"\n", line)
			for i, s := range sandboxes {
				_, errs, code := dovetail(t, "", "exec", "--dir", s.Dir, "--instance", instances[i], "--", probe, "dial", address)
				if s == one {
					require.Zero(t, code, errs)
				} else {
					require.NotZero(t, code, "nobody listens there in this one")
				}
			}
		}
	})

	t.Run("a capture has the packets of its own", func(t *testing.T) {
		for i, s := range sandboxes {
			output, end := started(t, "capture", "--dir", s.Dir, instances[i], "-w", "-", "--duration", "3s")
			defer end()
			_, err := io.ReadFull(output, make([]byte, 24)) // it listens
			require.NoError(t, err)
			_, errs, code := dovetail(t, "", "exec", "--dir", one.Dir, "--instance", instances[0], "--", probe, "get", "http://"+sandbox.PeerHost.String()+"/")
			require.Zero(t, code, errs)
			packets, err := io.ReadAll(output)
			require.NoError(t, err)
			require.Equal(t, s == one, bytes.Contains(packets, sandbox.PeerHost.AsSlice()))
		}
	})

	t.Run("one ends, the other goes on", func(t *testing.T) {
		_, errs, code := dovetail(t, "", "down", "--dir", one.Dir)
		require.Zero(t, code, errs)
		out, errs, code := dovetail(t, "", "exec", "--dir", two.Dir, "--instance", instances[1], "--", probe, "get", "http://"+vpc.InternetHost.String()+"/")
		require.Zero(t, code, errs)
		require.Equal(t, "198.51.100.7", strings.TrimSpace(out))
	})
}
