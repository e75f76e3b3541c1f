// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// mixed has something of everything.
func mixed() plan.Report {
	f := good()
	f.PricesFrom = "a list"
	for i := range f.InstanceTypes {
		f.InstanceTypes[i].Price = 0.1
	}
	f.pool().Spec.Template.Spec.Requirements[0].Values = []string{"m5.large", "m4.large", "hpc6id.32xlarge"}
	f.ENIConfigs = f.ENIConfigs[:2]
	f.addSubnet("subnet-pods-us-east-1a", "us-east-1a", "100.64.0.0/24", "100.64.0.64/28", "100.64.0.130/32")
	f.route("100.64.0.0/10", "tgw-1")
	f.Unread = []plan.Unread{{What: "the account's quotas <b>", Why: "AccessDenied: no"}}
	f.Quotas.ENIs.Assumed = true
	return plan.Make(f.Facts)
}

func TestTheReportInText(t *testing.T) {
	var out bytes.Buffer
	mixed().Print(&out, podnetwork.Drawing{})
	golden(t, "mixed.txt", out.String())
}

func TestTheReportInHTML(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, mixed().HTML(&out))
	golden(t, "mixed.html", out.String())
	document, err := html.Parse(&out)
	require.NoError(t, err)
	counts := map[string]int{}
	for node := range document.Descendants() {
		if node.Type == html.ElementNode {
			counts[node.Data]++
		}
		for _, a := range node.Attr {
			require.NotContains(t, []string{"src", "href"}, a.Key, "the page needs nothing from elsewhere")
			require.False(t, strings.Contains(a.Val, "//"), a.Val)
		}
	}
	require.Zero(t, counts["script"])
	require.Zero(t, counts["b"], "names are escaped")
	require.Equal(t, 5, counts["svg"], "two pod subnets and three node subnets")
	require.Equal(t, counts["rect"], lo.Sum([]int{counts["title"] - 1}), "each run of blocks has a title")
}

func TestManifests(t *testing.T) {
	files, err := mixed().Manifests()
	require.NoError(t, err)
	require.Equal(t, []string{"podnetwork.yaml", "eniconfigs.yaml"}, lo.Map(files, func(f plan.File, _ int) string { return f.Name }))
	network := &v1alpha1.PodNetwork{}
	require.NoError(t, yaml.UnmarshalStrict([]byte(files[0].Content), network))
	require.Equal(t, "default", network.Name)
	require.Contains(t, files[1].Content, "name: us-east-1c")
	require.NotContains(t, files[1].Content, "us-east-1a", "it has one")

	f := good()
	f.Network.Spec.Provision = &v1alpha1.Provision{CIDRs: []string{"100.64.0.0/16"}}
	files, err = plan.Make(f.Facts).Manifests()
	require.NoError(t, err)
	require.Len(t, files, 1, "the controller writes the ENIConfigs")
	require.NoError(t, yaml.UnmarshalStrict([]byte(files[0].Content), network))
	require.Equal(t, f.Network.Spec.Provision, network.Spec.Provision)

	dir := filepath.Join(t.TempDir(), "new")
	require.NoError(t, plan.Write(dir, files, false))
	mine := []byte("mine")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "podnetwork.yaml"), mine, 0o600))
	require.ErrorContains(t, plan.Write(dir, append([]plan.File{{Name: "other.yaml"}}, files...), false), "--force overwrites it")
	kept, err := os.ReadFile(filepath.Join(dir, "podnetwork.yaml"))
	require.NoError(t, err)
	require.Equal(t, mine, kept)
	require.NoFileExists(t, filepath.Join(dir, "other.yaml"), "all or nothing")
	require.NoError(t, plan.Write(dir, files, true))
	kept, err = os.ReadFile(filepath.Join(dir, "podnetwork.yaml"))
	require.NoError(t, err)
	require.Equal(t, files[0].Content, string(kept))
}
