// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

func TestTheENIConfigIsChosenInTheOrderOfAWSNode(t *testing.T) {
	const zone = corev1.LabelTopologyZone
	tests := map[string]struct {
		labels, annotations map[string]string
		nodeLabel, want     string
	}{
		"nothing names one":        {nil, nil, zone, "default"},
		"the zone":                 {map[string]string{zone: "us-east-1a"}, nil, zone, "us-east-1a"},
		"another label":            {map[string]string{zone: "us-east-1a", v1alpha1.LabelENIConfig: "big"}, nil, v1alpha1.LabelENIConfig, "big"},
		"the annotation wins":      {map[string]string{zone: "us-east-1a"}, map[string]string{v1alpha1.AnnotationENIConfig: "noted"}, zone, "noted"},
		"an outside manager first": {map[string]string{zone: "us-east-1a", v1alpha1.LabelExternalENIConfig: "outside"}, map[string]string{v1alpha1.AnnotationENIConfig: "noted"}, zone, "outside"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: test.labels, Annotations: test.annotations}}
			got, tried := eniConfigName(node, test.nodeLabel)
			require.Equal(t, test.want, got)
			require.NotEmpty(t, tried)
		})
	}
}

func TestSettingsOfAPodNetwork(t *testing.T) {
	network := &v1alpha1.PodNetwork{}
	network.Spec.Addressing.Cooldown = &metav1.Duration{Duration: time.Minute}
	five := int32(5)
	network.Spec.Addressing.Warm = &v1alpha1.Warm{IPTarget: &five}
	network.Spec.SNAT = v1alpha1.SNAT{Policy: v1alpha1.SNATNone, ExcludeCIDRs: []string{"172.16.0.0/12"}}
	s := settingsOf(network)
	require.Equal(t, pool.Targets{Prefix: 1, ENI: 1, IP: 5}, s.targets)
	require.Equal(t, time.Minute, s.cooldown)
	require.False(t, s.snat)
	require.Len(t, s.excluded, 1)
	require.True(t, s.prefixes)
}

func TestANodeKeepsTheAllocationThatItWasLaunchedWith(t *testing.T) {
	for name, test := range map[string]struct {
		label            string
		asked            bool // the network asks for static allocation now
		static, labelled bool
	}{
		"an older node, dynamic":          {"", false, false, false},
		"an older node, static":           {"", true, true, false},
		"launched dynamic, still asked":   {"Dynamic", false, false, true},
		"launched dynamic, now static":    {"Dynamic", true, false, true},
		"launched static, network static": {"Static", true, true, true},
		"launched static, now dynamic":    {"Static", false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			node := &corev1.Node{}
			if test.label != "" {
				node.Labels = map[string]string{v1alpha1.LabelAllocation: test.label}
			}
			s := launchedAs(node, settings{static: test.asked})
			require.Equal(t, test.static, s.static)
			require.Equal(t, test.labelled, s.labelled)
		})
	}
}

func TestANodeThatWasLaunchedWithSingleAddressesKeepsToThem(t *testing.T) {
	for label, prefixes := range map[string]bool{"": true, "Enabled": true, "Disabled": false} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelPrefixDelegation: label}}}
		require.Equal(t, prefixes, launchedAs(node, settings{prefixes: true}).prefixes, label)
		require.False(t, launchedAs(node, settings{}).prefixes, "the network gives none: %s", label)
	}
}

func TestOptionsComeFromFlagsThenTheEnvironment(t *testing.T) {
	t.Setenv("NODE_NAME", "from-env")
	t.Setenv("CLUSTER_NAME", "cluster")
	t.Setenv("METRICS_ADDRESS", ":1")
	o, err := ParseOptions([]string{"--metrics-address=:2"})
	require.NoError(t, err)
	require.Equal(t, "from-env", o.NodeName)
	require.Equal(t, ":2", o.MetricsAddress)
	_, err = ParseOptions([]string{"--mtu=100"})
	require.ErrorContains(t, err, "576..9001")
	_, err = ParseOptions([]string{"--max-enis=1", "--reserved-enis=-1"})
	require.ErrorContains(t, err, "--max-enis 1")
	require.ErrorContains(t, err, "--reserved-enis -1")
	t.Setenv("NODE_NAME", "")
	_, err = ParseOptions(nil)
	require.ErrorContains(t, err, "--node-name (NODE_NAME) is required")
}

func TestPrefixesAreOnlyForInstanceTypesThatTakeThem(t *testing.T) {
	for hypervisor, capable := range map[string]bool{"nitro": true, "xen": false} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{
			v1alpha1.LabelENIs: "3", v1alpha1.LabelIPsPerENI: "10", labelHypervisor: hypervisor,
		}}}
		a := &Agent{}
		g, err := a.geometryOf(t.Context(), node)
		require.NoError(t, err)
		require.Equal(t, podcapacity.Geometry{ENIs: 3, IPsPerENI: 10, PrefixCapable: capable}, g)
	}
}
