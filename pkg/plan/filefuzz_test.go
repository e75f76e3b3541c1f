// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/pkg/plan/survey"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// FuzzAFileIsPlannedOrRefused: no API server has looked at what `plan -f` reads. The error names the file, and what is taken can be planned,
// printed, and written in each of the forms.
func FuzzAFileIsPlannedOrRefused(f *testing.F) {
	for _, content := range []string{
		"apiVersion: dovetail.dev/v1alpha1\nkind: PodNetwork\nmetadata: {name: default}\nspec: {provision: {cidrs: [100.64.0.0/16], subnetPrefixLength: 19, securityGroups: [sg-0a]}}\n",
		"apiVersion: dovetail.dev/v1alpha1\nkind: PodNetwork\nmetadata: {name: default}\nspec: {agent: VPCCNI, addressing: {allocation: Dynamic, prefixDelegation: Disabled, warm: {ipTarget: 5, minimumIPTarget: 10}, cooldown: 30s}, maxPods: {policy: Maximum, limit: 30}}\n",
		"apiVersion: dovetail.dev/v1alpha1\nkind: PodNetwork\nmetadata: {name: default}\nspec: {addressing: {allocation: Static}, snat: {policy: None, excludeCIDRs: [10.0.0.0/8]}, instanceTypes: Flexible, nodeClassSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}}\n---\n" +
			"apiVersion: crd.k8s.amazonaws.com/v1alpha1\nkind: ENIConfig\nmetadata: {name: us-east-1a}\nspec: {subnet: subnet-pods-us-east-1a, securityGroups: [sg-1]}\n",
		"apiVersion: dovetail.dev/v1alpha1\nkind: PodNetwork\nmetadata: {name: default}\nspec: {provision: {cidrs: ['::/0', 100.64.0.1/33], subnetPrefixLength: -7}, maxPods: {limit: -1}, addressing: {warm: {prefixTarget: -3}, cooldown: -1h}}\n",
		"apiVersion: dovetail.dev/v1alpha1\nkind: PodNetwork\nmetadata: {name: default}\nspec: {eniConfigs: {nodeLabel: '', selector: {matchExpressions: [{key: '', operator: No}]}}, provision: {}}\n",
		"kind: ConfigMap\n", "# nothing\n---\n", "kind: PodNetwork\nmetadata: [1]\n", "\t",
	} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "network.yaml")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		declared, err := survey.ReadFile(path)
		if err != nil {
			require.Contains(t, err.Error(), path)
			return
		}
		require.NotEmpty(t, declared.Network.Name)
		facts := good()
		facts.Network, facts.From = declared.Network, declared.File
		facts.ENIConfigs = append(facts.ENIConfigs, declared.ENIConfigs...)
		report := plan.Make(facts.Facts)
		var out bytes.Buffer
		report.Print(&out, podnetwork.Drawing{Width: 80})
		require.NotEmpty(t, out.String())
		require.NoError(t, report.HTML(io.Discard))
		_, err = json.Marshal(report)
		require.NoError(t, err)
		files, err := report.Manifests()
		require.NoError(t, err)
		require.NotEmpty(t, files)
	})
}
