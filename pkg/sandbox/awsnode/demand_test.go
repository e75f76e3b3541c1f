// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
)

// m5.2xlarge: four ENIs of fifteen addresses.
func TestOneENIIsKeptFree(t *testing.T) {
	full := eni.ENI{Prefixes: make([]netip.Prefix, 14)}
	partly := eni.ENI{ID: "partly", Prefixes: make([]netip.Prefix, 4)}
	assign := action{assign: 10, to: partly}
	for name, c := range map[string]struct {
		enis     []eni.ENI
		assigned int
		warm     int
		want     action
		grows    bool
	}{
		"the primary ENI is filled first":                                   {enis: []eni.ENI{partly}, warm: 1, want: assign, grows: true},
		"an ENI without pods is enough":                                     {enis: []eni.ENI{full}, warm: 1},
		"the first pod makes it want another":                               {enis: []eni.ENI{full}, assigned: 1, warm: 1, want: action{create: true}, grows: true},
		"so does the fifteenth":                                             {enis: []eni.ENI{full, full}, assigned: 15, warm: 1, want: action{create: true}, grows: true},
		"room on an ENI comes before another ENI":                           {enis: []eni.ENI{full, partly, full}, assigned: 25, warm: 1, want: assign, grows: true},
		"no more ENIs than the instance takes":                              {enis: []eni.ENI{full, full, full, full}, assigned: 56, warm: 1},
		"without a target it waits until none is free":                      {enis: []eni.ENI{full}, assigned: 13},
		"without a target it takes an ENI when the last address is a pod's": {enis: []eni.ENI{full}, assigned: 14, want: action{create: true}, grows: true},
	} {
		t.Run(name, func(t *testing.T) {
			do, grows := demand{slots: 14, maxENIs: 4, warmENIs: c.warm, enis: c.enis, assigned: c.assigned}.grow()
			require.Equal(t, c.grows, grows)
			require.Equal(t, c.want, do)
		})
	}
}
