// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/require"
)

func TestTheAgentHearsOfACall(t *testing.T) {
	dir := t.TempDir()
	agent, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(dir, ReportSocketName)})
	require.NoError(t, err)
	defer agent.Close()
	call := &skel.CmdArgs{StdinData: fmt.Appendf(nil, `{"stateDir": %q}`, dir)}
	for code, result := range map[uint]error{
		0: nil, 11: types.NewError(types.ErrTryAgainLater, "no address", ""), types.ErrInternal: errors.New("of no kind"),
	} {
		got := reported(VerbAdd, func(*skel.CmdArgs) error { return result })(call)
		require.Equal(t, result, got)
		datagram := make([]byte, 512)
		n, err := agent.Read(datagram)
		require.NoError(t, err)
		var r Report
		require.NoError(t, json.Unmarshal(datagram[:n], &r))
		require.Equal(t, VerbAdd, r.Verb)
		require.Equal(t, code, r.Code)
	}
}

func TestACallNeitherFailsNorWaitsForAnAgentThatDoesNotHearIt(t *testing.T) {
	call := func(dir string) error {
		return reported(VerbDel, func(*skel.CmdArgs) error { return nil })(&skel.CmdArgs{StdinData: fmt.Appendf(nil, `{"stateDir": %q}`, dir)})
	}
	require.NoError(t, call(t.TempDir()), "there is no socket")
	require.NoError(t, reported(VerbDel, func(*skel.CmdArgs) error { return nil })(&skel.CmdArgs{StdinData: []byte("{")}))
	dir := t.TempDir()
	agent, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(dir, ReportSocketName)})
	require.NoError(t, err)
	defer agent.Close()
	for range 10000 { // more than the socket holds: it is never read
		require.NoError(t, call(dir))
	}
}
