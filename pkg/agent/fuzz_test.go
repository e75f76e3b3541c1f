// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/cni"
)

// FuzzOptionsAreValidOrTheErrorNamesTheFlag gives a flag a text, on the command line and in the environment: they mean the same.
func FuzzOptionsAreValidOrTheErrorNamesTheFlag(f *testing.F) {
	var names []string
	new(Options).flags().VisitAll(func(p *pflag.Flag) { names = append(names, p.Name) })
	for i := range names {
		for _, value := range []string{"", "0", "1", "9001", "-1", "0x10", "99999999999999999999", ":61680", "127.0.0.1:0", "a\n", "ü"} {
			f.Add(uint8(i), value) //nolint:gosec // ten flags
		}
	}
	for _, name := range names {
		require.NoError(f, os.Unsetenv(strings.ToUpper(strings.ReplaceAll(name, "-", "_"))))
	}
	f.Fuzz(func(t *testing.T, which uint8, value string) {
		if strings.ContainsRune(value, 0) {
			return // no command line and no environment has it
		}
		name := names[int(which)%len(names)]
		o, err := ParseOptions([]string{"--node-name=n", "--cluster-name=c", "--" + name + "=" + value})
		if err == nil {
			require.NoError(t, o.validate())
		} else {
			require.Contains(t, err.Error(), "--"+name)
		}

		t.Setenv("NODE_NAME", "n")
		t.Setenv("CLUSTER_NAME", "c")
		variable := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		t.Setenv(variable, value)
		inherited, errInherited := ParseOptions(nil)
		if err == nil {
			require.NoError(t, errInherited)
			require.Equal(t, o, inherited)
		} else {
			require.Error(t, errInherited)
			require.True(t, strings.Contains(errInherited.Error(), variable+"=") || strings.Contains(errInherited.Error(), "--"+name), errInherited.Error())
		}
	})
}

// FuzzAReportIsCountedOrRefused: what a program on the node sends must neither end the agent nor make series without bound.
func FuzzAReportIsCountedOrRefused(f *testing.F) {
	for _, datagram := range []string{
		`{"verb":"ADD","seconds":0.02,"code":11}`, `{"verb":"NONE"}`, `{"verb":"DEL","seconds":-1}`, `{"verb":"GC","seconds":1e308,"code":1000}`, `{"verb":"CHECK","code":-1}`, `[]`, `null`, `{"VERB":"STATUS"}`,
	} {
		f.Add([]byte(datagram))
	}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		r, err := parseReport(datagram)
		if err != nil {
			require.LessOrEqual(t, len(err.Error()), 1000, "a log line of any length")
			return
		}
		require.Contains(t, []string{cni.VerbAdd, cni.VerbDel, cni.VerbCheck, cni.VerbGC, cni.VerbStatus}, r.Verb)
		require.LessOrEqual(t, r.Code, uint(1000))
		require.GreaterOrEqual(t, r.Seconds, 0.0)
		m := newMetrics()
		m.called(r)
		_, err = m.registry.Gather()
		require.NoError(t, err)
	})
}
