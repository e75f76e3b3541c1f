// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

// ReportSocketName in the state directory: the agent's, for its metrics. A Report is one datagram.
const ReportSocketName = "report.sock"

// Verbs of reports.
const (
	VerbAdd    = "ADD"
	VerbDel    = "DEL"
	VerbCheck  = "CHECK"
	VerbGC     = "GC"
	VerbStatus = "STATUS"
)

// Report of a call of the plugin.
type Report struct {
	Verb    string  `json:"verb"`
	Seconds float64 `json:"seconds"`
	// Code of the CNI error, 0: success.
	Code uint `json:"code"`
}

// reported runs a verb and tells the agent of it, should there be one that listens. A call must neither fail nor wait for
// that: the datagram is sent without blocking, and what comes of it is not looked at.
func reported(verb string, call func(*skel.CmdArgs) error) func(*skel.CmdArgs) error {
	return func(a *skel.CmdArgs) error {
		start := time.Now()
		err := call(a)
		report(a.StdinData, Report{Verb: verb, Seconds: time.Since(start).Seconds(), Code: codeOf(err)})
		return err
	}
}

func codeOf(err error) uint {
	var known *types.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &known):
		return known.Code
	default:
		return types.ErrInternal // what the runtime is told
	}
}

func report(stdin []byte, r Report) {
	c := struct {
		StateDir string `json:"stateDir"`
	}{DefaultStateDir}
	if json.Unmarshal(stdin, &c) != nil {
		return
	}
	content, err := json.Marshal(r)
	if err != nil {
		return
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(socket) //nolint:errcheck // the process ends
	_ = unix.Sendto(socket, content, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: filepath.Join(c.StateDir, ReportSocketName)})
}
