// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

var update = flag.Bool("update", false, "write the tables of docs/agent.md")

const page = "../../docs/agent.md"

// exercised is an agent to which everything has happened that it counts.
func exercised(t *testing.T) *Agent {
	t.Helper()
	a := serving(t)
	a.metrics.observe(pool.Input{Waiting: 3, PodENIs: []pool.AttachedENI{{Blocks: []pool.Block{
		{Prefix: netip.MustParsePrefix("100.64.0.16/28"), Leased: 4, Cooling: 2}, {Prefix: netip.MustParsePrefix("100.64.0.99/32")},
	}}}})
	a.metrics.observeCondition(supply{capacity: 1}.condition())
	a.count(eni.NoFreePrefix, "no /28 is left")
	a.metrics.repaired([]datapath.Change{{Kind: datapath.KindRule}, {Kind: datapath.KindRule}, {Kind: datapath.KindLink}})
	a.kernelFailed(errors.New("no such device"))
	a.metrics.collectedRemain(remainLease)

	// A throttled try and one that succeeds are one call to whoever makes it.
	var tries atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if tries.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>slow down</Message></Error></Errors></Response>`)
			return
		}
		fmt.Fprint(w, `<DescribeSubnetsResponse><subnetSet/></DescribeSubnetsResponse>`)
	}))
	t.Cleanup(server.Close)
	client := ec2.NewFromConfig(a.metrics.instrument(aws.Config{
		Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	}))
	_, err := client.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
	require.NoError(t, err)

	// Plugins: one that reports, one that is no plugin, and two that find the pool empty.
	report, err := net.Dial("unixgram", filepath.Join(a.opts.StateDir, cni.ReportSocketName))
	require.NoError(t, err)
	defer report.Close()
	for _, datagram := range []string{`{"verb":"ADD","seconds":0.02,"code":11}`, `{"verb":"NONE"}`, `{"verb":"ADD","code":99999}`, `no JSON`, `{"verb":"DEL","seconds":0.01,"code":0}`} {
		_, err = report.Write([]byte(datagram))
		require.NoError(t, err)
	}
	post := http.Client{Transport: &http.Transport{DisableKeepAlives: true, Dial: func(string, string) (net.Conn, error) { //nolint:staticcheck // of a test
		return net.Dial("unix", filepath.Join(a.opts.StateDir, cni.SocketName))
	}}}
	for _, answer := range []error{nil, errors.New("the subnet is full")} {
		go func() { (<-a.asks).answer <- answer }()
		response, err := post.Post("http://agent"+cni.GrowPath, "", nil)
		require.NoError(t, err)
		response.Body.Close()
		require.Equal(t, answer == nil, response.StatusCode == http.StatusOK)
	}
	require.Eventually(t, func() bool { // both calls and the series that is there from the start
		return count(t, a, "dovetail_agent_cni_duration_seconds", `code="11"`) == 1 && count(t, a, "dovetail_agent_cni_duration_seconds", `verb="DEL"`) == 1
	}, time.Minute, 10*time.Millisecond)
	return a
}

// count is a counter's value, or how often a histogram has observed, summed over series with this label.
func count(t *testing.T, a *Agent, name, label string) (n int) {
	t.Helper()
	families, err := a.metrics.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, pair := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", pair.GetName(), pair.GetValue()))
			}
			if label == "" || slices.Contains(labels, label) {
				n += int(m.GetCounter().GetValue()) + int(m.GetGauge().GetValue()) + int(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return n
}

func TestMetricsCountWhatHappens(t *testing.T) {
	a := exercised(t)
	for _, want := range []struct {
		metric, label string
		n             int
	}{
		{"dovetail_agent_pod_network_ready", "", 1},
		{"dovetail_agent_addresses", `state="total"`, 17},
		{"dovetail_agent_addresses", `state="leased"`, 4},
		{"dovetail_agent_addresses", `state="cooling"`, 2},
		{"dovetail_agent_addresses", `state="free"`, 11},
		{"dovetail_agent_prefixes", `unit="prefix"`, 1},
		{"dovetail_agent_prefixes", `unit="address"`, 1},
		{"dovetail_agent_pod_enis", "", 1},
		{"dovetail_agent_waiting_pods", "", 3},
		{"dovetail_agent_failures_total", `reason="NoFreePrefix"`, 1},
		{"dovetail_agent_aws_call_duration_seconds", `code="RequestLimitExceeded"`, 1},
		{"dovetail_agent_aws_call_duration_seconds", `code="OK"`, 1},
		{"dovetail_agent_aws_call_duration_seconds", `operation="DescribeSubnets"`, 2},
		{"dovetail_agent_cni_duration_seconds", `verb="ADD"`, 1},
		{"dovetail_agent_cni_duration_seconds", `code="99999"`, 0},
		{"dovetail_agent_pool_wait_duration_seconds", `result="served"`, 1},
		{"dovetail_agent_pool_wait_duration_seconds", `result="refused"`, 1},
		{"dovetail_agent_repairs_total", `kind="rule"`, 2},
		{"dovetail_agent_repairs_total", `kind="link"`, 1},
		{"dovetail_agent_repairs_total", `kind="route"`, 0},
		{"dovetail_agent_kernel_errors_total", "", 1},
		{"dovetail_agent_collected_total", `kind="lease"`, 1},
	} {
		assert.Equal(t, want.n, count(t, a, want.metric, want.label), "%s %s", want.metric, want.label)
	}
	families, err := a.metrics.registry.Gather()
	require.NoError(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestThePageOfTheAgentIsCurrent(t *testing.T) {
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	wanted := replaced(t, string(content), "flags", flagTable())
	wanted = replaced(t, wanted, "metrics", metricTable(t, exercised(t).metrics.registry))
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(wanted), 0o600))
		return
	}
	require.Equal(t, wanted, string(content), "run make generate")
}

// replaced is the page with another table between its markers.
func replaced(t *testing.T, content, what, table string) string {
	t.Helper()
	begin, end := "<!-- "+what+" -->\n", "<!-- /"+what+" -->"
	before, rest, found := strings.Cut(content, begin)
	require.True(t, found, begin)
	_, after, found := strings.Cut(rest, end)
	require.True(t, found, end)
	return before + begin + table + end + after
}

func flagTable() string {
	var table strings.Builder
	table.WriteString("| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n")
	new(Options).flags().VisitAll(func(f *pflag.Flag) {
		fmt.Fprintf(&table, "| `--%s` | `%s` | %s | %s |\n", f.Name, variable(f), f.DefValue, f.Usage)
	})
	return table.String()
}

func metricTable(t *testing.T, registry prometheus.Gatherer) string {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	var table strings.Builder
	table.WriteString("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "dovetail_") {
			continue
		}
		var labels []string
		for _, pair := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+pair.GetName()+"`")
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", family.GetName(), strings.ToLower(family.GetType().String()), strings.Join(labels, " "), family.GetHelp())
	}
	return table.String()
}

func TestThePageExplainsEveryReason(t *testing.T) {
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	reason := regexp.MustCompile(`Reason(?: +=|:) *"(\w+)"`)
	found := 0
	for _, pattern := range []string{"*.go", "eni/*.go", "allocator/*.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, match := range reason.FindAllStringSubmatch(string(source), -1) {
				found++
				assert.Contains(t, string(content), "`"+match[1]+"`", file)
			}
		}
	}
	require.Greater(t, found, 15)
}

func TestThePageOfThePluginHasItsConfiguration(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, writeConfList(dir, cni.DefaultStateDir))
	written, err := os.ReadFile(filepath.Join(dir, "10-dovetail.conflist"))
	require.NoError(t, err)
	content, err := os.ReadFile("../../docs/cni.md")
	require.NoError(t, err)
	require.Contains(t, string(content), "```json\n"+string(written)+"```")
}
