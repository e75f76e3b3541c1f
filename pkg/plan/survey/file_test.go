// SPDX-License-Identifier: Apache-2.0

package survey_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/plan/survey"
)

// What the API server would refuse is refused before a plan is made of it, with the field's name.
func TestAFileIsReadAsTheAPIServerWouldTakeIt(t *testing.T) {
	const head = "apiVersion: dovetail.dev/v1alpha1\nkind: PodNetwork\nmetadata: {name: default}\n"
	for content, want := range map[string]string{
		head: "",
		head + "spec: {provision: {cidrs: [100.64.0.0/16]}, addressing: {cooldown: 1m}}\n---\n# and\n---\napiVersion: crd.k8s.amazonaws.com/v1alpha1\nkind: ENIConfig\nmetadata: {name: a}\nspec: {subnet: subnet-0ab}\n": "",
		head + "spec: {provision: {cidrs: [100.64.0.0/16], subnetPrefixLength: 60}}": "spec.provision.subnetPrefixLength",
		head + "spec: {provision: {cidrs: ['::/0']}}":                                "spec.provision.cidrs[0]",
		head + "spec: {addressing: {cooldown: -1h}}":                                 "spec.addressing.cooldown",
		head + "spec: {addressing: {warm: {prefixTarget: -1}}}":                      "spec.addressing.warm.prefixTarget",
		head + "spec: {addressing: {allocation: Static, warm: {ipTarget: 1}}}":       "warm targets are for allocation Dynamic",
		head + "spec: {maxPods: {limit: many}}":                                      "limit",
		head + "spec: {maxpods: {}}":                                                 `unknown field "spec.maxpods"`,
		strings.Replace(head, "v1alpha1", "v2", 1):                                   "apiVersion",
		strings.Replace(head, "default", "A b", 1):                                   "metadata.name",
		strings.Replace(head, "name", "labels", 1):                                   "metadata",
		head + "---\n" + head:                                                        "several PodNetworks",
		"kind: ConfigMap":                                                            "ConfigMap is no kind",
		"a: 1":                                                                       "has no kind",
		"# nothing":                                                                  "has no PodNetwork",
	} {
		path := filepath.Join(t.TempDir(), "network.yaml")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := survey.ReadFile(path)
		if want == "" {
			require.NoError(t, err, content)
			continue
		}
		require.ErrorContains(t, err, want, content)
		require.ErrorContains(t, err, path)
	}
}
