// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"

	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// faultRunner runs fault commands against a simulator.
type faultRunner struct {
	*testing.T
	url string
	ec2 *ec2.Client
}

func newFaultRunner(t *testing.T) faultRunner {
	server := httptest.NewServer(simulator.New(simulator.Options{Seed: 1}).HandlerWithFaults())
	t.Cleanup(server.Close)
	return faultRunner{t, server.URL, ec2.New(ec2.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("sandbox", "sandbox", ""),
	})}
}

func (r faultRunner) run(args ...string) (stdout string, err error) {
	r.Helper()
	var out bytes.Buffer
	cmd := newSandboxCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetArgs(append([]string{"fault", "--endpoint", r.url}, args...))
	err = cmd.ExecuteContext(r.Context())
	return out.String(), err
}

func TestAFaultIsAddedListedAndClearedByTheCommandLine(t *testing.T) {
	r := newFaultRunner(t)
	describe := func() error {
		_, err := r.ec2.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
		return err
	}
	out, err := r.run("add", "error", "Describe*", "UnauthorizedOperation")
	require.NoError(t, err)
	require.Equal(t, "fault-1: Describe* answers UnauthorizedOperation\n", out)
	require.ErrorContains(t, describe(), "UnauthorizedOperation")

	out, err = r.run("add", "lost-reply", "CreateVpc", "--times", "1", "--rate", "0.5", "--seed", "7", "--description", "mine", "-o", "json")
	require.NoError(t, err)
	var added simulator.Fault
	require.NoError(t, json.Unmarshal([]byte(out), &added))
	require.Equal(t, simulator.LostReplyFault{Action: "CreateVpc", Rate: 0.5}, *added.LostReply)
	require.Equal(t, uint64(7), added.Seed)
	require.Equal(t, 1, added.Times)

	out, err = r.run("list")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^fault-1 +error +active +1 +Describe\* answers UnauthorizedOperation$`, out)
	require.Regexp(t, `(?m)^fault-2 +lostReply +active +0 +mine$`, out)

	_, err = r.run("clear", "fault-1")
	require.NoError(t, err)
	require.NoError(t, describe())
	_, err = r.run("clear", "fault-1")
	require.ErrorContains(t, err, "there are: fault-2")
	_, err = r.run("clear")
	require.NoError(t, err)
	out, err = r.run("list", "-o", "json")
	require.NoError(t, err)
	require.JSONEq(t, `{"faults": []}`, out)
}

func TestTheExamplesOfFaultsDoWhatTheySay(t *testing.T) {
	r := newFaultRunner(t)
	// What an account without a VPC, and a simulator without a cluster, do not have.
	missing := regexp.MustCompile(`there is no instance|there is no "subnet-|no control plane here`)
	for _, kind := range faultKinds() {
		examples := 0
		for line := range strings.Lines(kind.example) {
			command, ok := strings.CutPrefix(strings.TrimSpace(line), "dovetail sandbox fault ")
			if !ok {
				require.Regexp(t, "^#", strings.TrimSpace(line))
				continue
			}
			examples++
			t.Run(command, func(t *testing.T) {
				_, err := r.run(strings.Fields(strings.ReplaceAll(command, "'", ""))...)
				if err != nil {
					require.Regexp(t, missing, err.Error())
				}
			})
		}
		require.NotZero(t, examples, kind.use)
	}
}

func TestAWrongFaultIsRefusedWithWhatIsRight(t *testing.T) {
	r := newFaultRunner(t)
	for command, want := range map[string]string{
		"add error CreateFleet InternalError --rate 0": "strikes nothing",
		"add error CreateFleets InternalError":         "matches no call of EC2",
		"add latency --add fast":                       "write 2s",
		"add latency":                                  `"add" not set`,
		"add outage etcd":                              "only a whole sandbox has one",
		"add capacity --type m5.huge":                  "m5.huge",
		"add capacity --code SpotMaxPriceTooLow":       "set lifecycle to spot",
		"add kill i-0123456789abcdef0 --for 1m":        "unknown flag: --for",
		"add error CreateFleet InternalError -o yaml":  "the only other output is json",
		"clear fault-9":                                "fault-9",
	} {
		_, err := r.run(strings.Fields(command)...)
		require.ErrorContains(t, err, want, command)
	}
	_, err := r.run("list", "--endpoint", r.url+"/elsewhere")
	require.ErrorContains(t, err, "is it a sandbox's simulator?")
}
