// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func runMaxPods(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, warnings bytes.Buffer
	cmd := newMaxPodsCommand()
	cmd.SetOut(&out)
	cmd.SetErr(&warnings)
	cmd.SilenceErrors = true
	cmd.SetArgs(args)
	err = cmd.Execute()
	return out.String(), warnings.String(), err
}

func TestMaxPodsPrintsOnlyTheNumber(t *testing.T) {
	custom := []string{"--custom-networking"}
	prefixes := []string{"--custom-networking", "--prefix-delegation"}
	for name, test := range map[string]struct {
		instanceType string
		flags        []string
		want         string
	}{
		"m5.large, custom, single":            {"m5.large", custom, "20"},
		"m5.large, custom, prefixes":          {"m5.large", prefixes, "110"},
		"m5.large, what the addresses allow":  {"m5.large", append(prefixes, "--show-max-allowed"), "290"},
		"c5.xlarge, custom, single":           {"c5.xlarge", custom, "44"},
		"c5.xlarge, what the addresses allow": {"c5.xlarge", append(prefixes, "--show-max-allowed"), "674"},
		"t3.small, custom, single":            {"t3.small", custom, "8"},
		"t3.small, custom, prefixes":          {"t3.small", prefixes, "98"},
		"c7g.medium, custom, single":          {"c7g.medium", custom, "5"},
		"c7g.medium, custom, prefixes":        {"c7g.medium", prefixes, "50"},
		"m5.large on the primary ENI too":     {"m5.large", nil, "29"},
		"a reserved ENI":                      {"m5.large", append(custom, "--reserved-enis", "1"), "11"},
		"a limit":                             {"m5.large", append(prefixes, "--max-pods-limit", "58"), "58"},
		"more than 30 vCPU":                   {"m5.12xlarge", prefixes, "250"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, err := runMaxPods(t, append([]string{"--instance-type", test.instanceType}, test.flags...)...)
			require.NoError(t, err)
			require.Equal(t, test.want+"\n", stdout)
			require.Empty(t, stderr)
		})
	}
}

func TestMaxPodsWarnsOnStderrWhenATypeHasNoPrefixes(t *testing.T) {
	stdout, stderr, err := runMaxPods(t, "--instance-type", "m4.large", "--custom-networking", "--prefix-delegation")
	require.NoError(t, err)
	require.Equal(t, "11\n", stdout)
	require.Contains(t, stderr, "prefix delegation needs a Nitro")
}

func TestMaxPodsRefusesATypeWithoutAnENIForPods(t *testing.T) {
	stdout, _, err := runMaxPods(t, "--instance-type", "hpc6id.32xlarge", "--custom-networking")
	require.ErrorContains(t, err, "hpc6id.32xlarge can hold no pods: no ENI is left for pods")
	require.Empty(t, stdout)
}

func TestMaxPodsNamesNearMatchesOfAnUnknownType(t *testing.T) {
	for name, want := range map[string]string{
		"m5.larg":    "did you mean m5.large?",
		"m5large":    "did you mean m5.large?",
		"m5.humongo": "the m5 family has m5.12xlarge, m5.16xlarge",
		"banana":     "max-pods --all prints",
	} {
		_, _, err := runMaxPods(t, "--instance-type", name)
		require.ErrorContains(t, err, want, name)
	}
}

func TestMaxPodsOfAllTypesAsCSV(t *testing.T) {
	stdout, stderr, err := runMaxPods(t, "--all", "-o", "csv", "--custom-networking", "--prefix-delegation")
	require.NoError(t, err)
	require.Empty(t, stderr)
	header, _, _ := strings.Cut(stdout, "\n")
	require.Equal(t, "instance_type,vcpus,enis,ips_per_eni,prefix_capable,max_pods,recommended", header)
	records, err := csv.NewReader(strings.NewReader(stdout)).ReadAll()
	require.NoError(t, err)
	require.Greater(t, len(records), 500)
	require.Contains(t, records, []string{"m5.large", "2", "3", "10", "true", "290", "110"})
	require.Contains(t, records, []string{"t3.small", "2", "3", "4", "true", "98", "98"})
	require.Contains(t, records, []string{"m4.large", "2", "2", "10", "false", "11", "11"})
	require.Contains(t, records, []string{"hpc6id.32xlarge", "64", "1", "50", "true", "0", "0"})
}

func TestMaxPodsOfAllTypesAsJSON(t *testing.T) {
	stdout, _, err := runMaxPods(t, "--all", "-o", "json", "--custom-networking")
	require.NoError(t, err)
	var rows []row
	require.NoError(t, json.Unmarshal([]byte(stdout), &rows))
	require.Contains(t, rows, row{InstanceType: "m5.large", VCPUs: 2, ENIs: 3, IPsPerENI: 10, PrefixCapable: true, MaxPods: 20, Recommended: 20})
}

func TestMaxPodsRefusesFlagsThatContradictEachOther(t *testing.T) {
	for args, says := range map[string]string{
		"":                               "at least one of the flags",
		"--all --instance-type m5.large": "were all set",
		"--all --show-max-allowed":       "were all set",
		"--all -o yaml":                  `unknown output "yaml": choose csv or json`,
		"--instance-type m5.large --reserved-enis -1": "--reserved-enis must not be negative",
		"--instance-type m5.large --max-pods-limit 0": "--max-pods-limit must be at least 1",
		"m5.large": "unknown command",
		"--instance-type m5.large --show-max-allowed --max-pods-limit 9": "were all set",
	} {
		_, _, err := runMaxPods(t, strings.Fields(args)...)
		require.ErrorContains(t, err, says, args)
	}
}
