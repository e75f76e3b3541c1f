// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/status"
	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// FuzzAnAnswerIsPrintedOrRefused: `dovetail node status NODE` prints on an administrator's terminal what a node says, which somebody may
// have taken over. The print comes to an end, and does nothing to the terminal.
func FuzzAnAnswerIsPrintedOrRefused(f *testing.F) {
	whole, err := json.Marshal(status.Status{
		Version: 1, Time: time.Unix(1e9, 0), Node: "n", Source: "Dynamic", Targets: &status.Targets{Prefix: 1}, Ready: status.Condition{Status: "True", Reason: "AddressesAvailable", Message: "pods get addresses"},
		ENIs: []status.ENI{{ID: "eni-1", MAC: "02:00:00:00:00:01", Subnet: "subnet-1", PrimaryAddress: netip.MustParseAddr("100.64.0.5"), Prefixes: []status.Prefix{
			{Prefix: netip.MustParsePrefix("100.64.0.16/28"), Leases: []status.Lease{{Address: netip.MustParseAddr("100.64.0.17"), Pod: "default/web", ContainerID: "c", IfName: "eth0", Since: time.Unix(1e9, 0)}}},
			{Prefix: netip.MustParsePrefix("100.64.0.99/32"), Returning: true, Cooling: []netip.Addr{netip.MustParseAddr("100.64.0.99")}},
		}}},
		Kernel: status.Kernel{Rules: []string{"512: from all lookup 512"}, Differences: []status.Difference{{Kind: "rule", Object: "512"}}}, Errors: []status.Error{{Reason: "Throttled", Message: "slow down", Count: 2}},
	})
	require.NoError(f, err)
	f.Add(whole)
	f.Add([]byte(`{"enis":[{"prefixes":[{"prefix":"0.0.0.0/0"},{"prefix":"::/0"},{"prefix":"::1/128"},{}]}],"node":"a\u001b[2Jb\u0007\u009b31m"}`))
	f.Add([]byte(`{"errors":[{"message":"a\r\nb\u202eB"}],"strays":[{"pod":"x\u001b]0;title\u0007"}],"incomplete":["\u0000"]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		var s status.Status
		if json.Unmarshal(answer, &s) != nil {
			return
		}
		var out bytes.Buffer
		require.NoError(t, status.Print(cli.Plain(&out), s))
		require.LessOrEqual(t, out.Len(), 4096+64*len(answer))
		require.Equal(t, -1, strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }), "%q", out.String())
	})
}
