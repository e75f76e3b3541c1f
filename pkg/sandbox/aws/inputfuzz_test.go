// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzASpanIsReadAsItIsWritten: times of faults, from a command line or over HTTP.
func FuzzASpanIsReadAsItIsWritten(f *testing.F) {
	for _, text := range []string{"2s", "1s-3s", "-1s", "1s--1s", "3s-1s", "", "-", "1h1ns-9000h", "9223372036854775807ns"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSpan(text)
		if err != nil {
			require.Contains(t, err.Error(), "is no time: write 2s")
			return
		}
		require.GreaterOrEqual(t, s.Min, time.Duration(0))
		require.LessOrEqual(t, s.Min, s.Max)
		again, err := ParseSpan(s.String())
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}

// FuzzAFaultIsTakenOrRefused: what was taken is listed, and taken again as it is listed.
func FuzzAFaultIsTakenOrRefused(f *testing.F) {
	for _, fault := range []string{
		`{"throttle":{"action":"ec2:*","capacity":1,"refill":0.5},"for":"2s"}`, `{"error":{"action":"ec2:CreateFleet","code":"InternalError","rate":0.5,"afterEffect":true},"times":3,"seed":7}`,
		`{"latency":{"add":"1s-2s"},"description":"slow"}`, `{"capacity":{"type":"m5.*","zone":"us-east-1a","left":-1}}`, `{"subnet":{"id":"subnet-1","mode":"full","leave":2}}`,
		`{"metadataLag":{"add":"2s"}}`, `{"metadataError":{"status":500,"rate":2}}`, `{"lostReply":{"action":"CreateNetworkInterface"}}`, `{"outage":{"component":"etcd"}}`, `{"kill":{"instance":"i-1"},"latency":{}}`,
		`{}`, `null`, `{"times":-1}`, `{"for":"x"}`,
	} {
		f.Add([]byte(fault))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		var fault Fault
		if json.Unmarshal(content, &fault) != nil {
			return
		}
		c := New(Options{Seed: 1})
		added, err := c.AddFault(fault)
		if err != nil {
			require.ErrorIs(t, err, ErrFault)
			require.Empty(t, c.Faults())
			return
		}
		require.Len(t, c.Faults(), 1)
		_, err = json.Marshal(added)
		require.NoError(t, err)
		require.NoError(t, c.RemoveFault(added.ID))
	})
}

// FuzzAPolicyIsReadOrRefused: a policy that is taken and has no Allow allows nothing.
func FuzzAPolicyIsReadOrRefused(f *testing.F) {
	f.Add(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ec2:Describe*","Resource":"*"}}`, "ec2:DescribeSubnets", "*")
	f.Add(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":["ec2:*"],"Resource":["arn:*"],"Condition":{"StringLike":{"aws:RequestTag/a":["b?c*"]},"Null":{"aws:TagKeys":true}}}]}`, "ec2:RunInstances", "arn:aws:ec2:::instance/*")
	f.Add(`{"Version":"2012-10-17","Statement":[]}`, "", "")
	f.Add(`{"Version":"2012-10-17"}`, "a:b", "c")
	f.Fuzz(func(t *testing.T, document, action, resource string) {
		p, err := parsePolicy(document)
		if err != nil {
			return
		}
		allows := false
		for _, s := range p.statements {
			allows = allows || s.Effect == "Allow"
		}
		got := allowed([]*policy{p}, ask{action: action, resource: resource, keys: map[string][]string{"aws:RequestTag/a": {"bxc"}}})
		require.False(t, got && !allows)
		deny, err := parsePolicy(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)
		require.NoError(t, err)
		require.False(t, allowed([]*policy{p, deny}, ask{action: action, resource: resource}), "a Deny decides")
	})
}
