// SPDX-License-Identifier: Apache-2.0

// Package clients_test checks the sandbox's AWS simulator with clients that nobody here wrote: Debian's AWS CLI and botocore,
// and the upstream controller of karpenter-provider-aws. It needs packages that are not Go modules, so `make test` leaves it
// out and `make test-clients` runs it.
package clients_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// Debian's own, whatever comes first in PATH.
const (
	awsCLI = "/usr/bin/aws"
	python = "/usr/bin/python3"
)

// deadline ends what hangs; it is no expectation.
const deadline = 5 * time.Minute

// binDir is the repository's bin folder.
func binDir() string { return controlplanetest.BinDir() }

// simulator is `dovetail sandbox aws`, with an account that has nothing in it.
type simulator struct{ url string }

var endpoint = regexp.MustCompile(`AWS_ENDPOINT_URL=(http://\S+)`)

// newSimulator starts one for a test, on a free port of loopback.
func newSimulator(t *testing.T) simulator {
	t.Helper()
	program := filepath.Join(binDir(), "dovetail")
	require.FileExists(t, program, "run make build")
	cmd := exec.Command(program, "sandbox", "aws", "--listen", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	found := endpoint.FindStringSubmatch(line)
	require.NotNil(t, found, line)
	return simulator{url: found[1]}
}

// environment of a client: nothing of this machine's AWS or Python configuration.
func environment(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{
		"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "LANG=C.UTF-8", "TZ=UTC", "AWS_PAGER=",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_ACCESS_KEY_ID=sandbox", "AWS_SECRET_ACCESS_KEY=sandbox",
	}, more...)
}

// run runs a client and returns what it printed, and its exit status.
func run(t *testing.T, env []string, program string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs strings.Builder
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &errs
	err := cmd.Run()
	require.NoError(t, ctx.Err(), "%s %s hangs\n%s", program, strings.Join(args, " "), &errs)
	if cmd.ProcessState == nil {
		require.NoError(t, err, "install it as hack/test-clients.sh does")
	}
	return strings.TrimSpace(out.String()), strings.TrimSpace(errs.String()), cmd.ProcessState.ExitCode()
}

// check is a subtest that those after it stand on: the test ends with the first that fails.
func check(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	if !t.Run(name, f) {
		t.Fatalf("stopped after %q", name)
	}
}
