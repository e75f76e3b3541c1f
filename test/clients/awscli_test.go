// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/shlex"
	"github.com/stretchr/testify/require"
)

// cli is the AWS CLI before a simulator. Its command lines are as in a shell; %s are filled in.
type cli struct {
	endpoint string
	env      []string
}

func (c cli) run(t *testing.T, line string, values ...any) (stdout, stderr string, code int) {
	t.Helper()
	args, err := shlex.Split(fmt.Sprintf(line, values...))
	require.NoError(t, err)
	// Older than 2.13, Debian 12's does not know AWS_ENDPOINT_URL.
	return run(t, c.env, awsCLI, append([]string{"--endpoint-url", c.endpoint}, args...)...)
}

// text returns what a command prints that must succeed, with --output text.
func (c cli) text(t *testing.T, line string, values ...any) string {
	t.Helper()
	out, errs, code := c.run(t, line+" --output text", values...)
	require.Zero(t, code, errs)
	return out
}

// words returns it as a list.
func (c cli) words(t *testing.T, line string, values ...any) []string {
	t.Helper()
	return strings.Fields(c.text(t, line, values...))
}

// json decodes what a command prints that must succeed.
func (c cli) json(t *testing.T, into any, line string, values ...any) {
	t.Helper()
	out, errs, code := c.run(t, line+" --output json", values...)
	require.Zero(t, code, errs)
	require.NoError(t, json.Unmarshal([]byte(out), into), out)
}

// refused requires an error of the service, as the CLI prints it.
func (c cli) refused(t *testing.T, code, operation, message, line string, values ...any) {
	t.Helper()
	out, errs, exit := c.run(t, line, values...)
	require.Empty(t, out)
	require.Equal(t, fmt.Sprintf("An error occurred (%s) when calling the %s operation: %s", code, operation, message), errs)
	require.Equal(t, 254, exit) // the service was asked, and said no
}

// TestAWSCLI tells one story a group; the groups run side by side, since waiters of the CLI ask every 15 seconds.
func TestAWSCLI(t *testing.T) {
	c := cli{endpoint: newSimulator(t).url, env: environment(t)}
	var a account
	check(t, "network", func(t *testing.T) { a = cliNetwork(t, c) })
	for name, group := range map[string]func(*testing.T, cli, account){
		"instance types": cliInstanceTypes, "other services": cliOtherServices, "errors": cliErrors, "interfaces": cliInterfaces,
		"instances": cliInstances, "attachments": cliAttachments, "launch templates and fleets": cliFleet,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			group(t, c, a)
		})
	}
}
