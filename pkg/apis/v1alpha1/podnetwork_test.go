// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

func apply(t *testing.T, c client.Client, kind, name, spec string) error {
	t.Helper()
	object := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(spec), &object.Object))
	object.SetAPIVersion(v1alpha1.GroupVersion.String())
	object.SetKind(kind)
	object.SetName(name)
	return client.WithFieldValidation(c, metav1.FieldValidationStrict).Create(t.Context(), object)
}

// startWith one of the chart's custom resources.
func startWith(t *testing.T, file string) client.Client {
	t.Helper()
	config := controlplanetest.Start(t)
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "charts", "dovetail-crd", "templates", file))
	require.NoError(t, err)
	crd := &apiextensionsv1.CustomResourceDefinition{}
	require.NoError(t, yaml.UnmarshalStrict(raw, crd))
	_, err = envtest.InstallCRDs(config, envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{crd}})
	require.NoError(t, err)
	scheme := runtime.NewScheme()
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	c, err := client.New(config, client.Options{Scheme: scheme})
	require.NoError(t, err)
	return c
}

func TestTheAPIServerDefaultsAndValidatesPodNetworks(t *testing.T) {
	c := startWith(t, "dovetail.dev_podnetworks.yaml")

	t.Run("an empty object has every default", func(t *testing.T) {
		require.NoError(t, apply(t, c, "PodNetwork", "empty", `{}`))
		got := &v1alpha1.PodNetwork{}
		require.NoError(t, c.Get(t.Context(), client.ObjectKey{Name: "empty"}, got))
		yes := true
		require.Equal(t, v1alpha1.PodNetworkSpec{
			Agent:         v1alpha1.AgentDovetail,
			ENIConfigs:    v1alpha1.ENIConfigs{NodeLabel: "topology.kubernetes.io/zone"},
			Addressing:    v1alpha1.Addressing{PrefixDelegation: v1alpha1.Enabled, Allocation: v1alpha1.AllocationDynamic, Cooldown: &metav1.Duration{Duration: 30 * time.Second}},
			MaxPods:       v1alpha1.MaxPods{Policy: v1alpha1.MaxPodsRecommended},
			InstanceTypes: v1alpha1.Homogeneous,
			SNAT:          v1alpha1.SNAT{Policy: v1alpha1.SNATNodeAddress, RandomizePorts: &yes},
		}, got.Spec)
	})
	t.Run("the defaults are what an unset spec means to the code", func(t *testing.T) {
		got := &v1alpha1.PodNetwork{}
		require.NoError(t, c.Get(t.Context(), client.ObjectKey{Name: "empty"}, got))
		again := got.DeepCopy()
		again.Spec.SNAT.Policy = v1alpha1.SNATNone
		again.Spec.Addressing.Cooldown.Duration = time.Minute
		require.Equal(t, got.Hash(), again.Hash(), "the agent applies these to running nodes")
	})
	t.Run("what a Go client leaves unset is defaulted too", func(t *testing.T) {
		network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "go-client"}}
		require.NoError(t, c.Create(t.Context(), network))
		require.Equal(t, 30*time.Second, network.Spec.Addressing.Cooldown.Duration)
		require.Equal(t, 30*time.Second, new(v1alpha1.Addressing).Rest(), "the same")
		network = &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "go-client-without-rest"}}
		network.Spec.Addressing.Cooldown = &metav1.Duration{}
		require.NoError(t, c.Create(t.Context(), network))
		require.Zero(t, network.Spec.Addressing.Rest())
	})
	t.Run("no nodes are counted as none", func(t *testing.T) {
		network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "without-nodes"}}
		require.NoError(t, c.Create(t.Context(), network))
		stored := network.DeepCopy()
		network.StatusConditions().SetFalse(v1alpha1.ConditionAgentReady, "VPCCNIMissing", "install it")
		require.NoError(t, c.Status().Patch(t.Context(), network, client.MergeFrom(stored)))
		raw := &unstructured.Unstructured{}
		raw.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PodNetwork"))
		require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(network), raw))
		total, found, err := unstructured.NestedInt64(raw.Object, "status", "nodes", "total")
		require.NoError(t, err)
		require.True(t, found, "the column of kubectl get would be empty")
		require.Zero(t, total)
	})
	t.Run("good objects are taken", func(t *testing.T) {
		require.NoError(t, apply(t, c, "PodNetwork", "warm", `spec: {addressing: {warm: {prefixTarget: 2}, cooldown: 1m}}`))
		require.NoError(t, apply(t, c, "PodNetwork", "snat", `spec: {snat: {excludeCIDRs: [172.16.0.0/12]}, maxPods: {limit: 50}}`))
		require.NoError(t, apply(t, c, "PodNetwork", "label", `spec: {eniConfigs: {nodeLabel: k8s.amazonaws.com/eniConfig}}`))
	})
	for name, test := range map[string]struct{ spec, message string }{
		"unknown-field":   {`spec: {addresses: {}}`, `unknown field "spec.addresses"`},
		"enum":            {`spec: {instanceTypes: Mixed}`, `supported values: "Homogeneous", "Flexible"`},
		"cidr":            {`spec: {snat: {excludeCIDRs: [172.16.0.0]}}`, "must be an IPv4 CIDR such as 172.16.0.0/12"},
		"cidr-v6":         {`spec: {snat: {excludeCIDRs: ["fd00::/8"]}}`, "must be an IPv4 CIDR"},
		"cooldown":        {`spec: {addressing: {cooldown: 2h}}`, "must be between 0s and 1h"},
		"node-label":      {`spec: {eniConfigs: {nodeLabel: "not a label"}}`, "must be a label key such as"},
		"static-warm":     {`spec: {addressing: {allocation: Static, warm: {ipTarget: 3}}}`, "warm targets are for allocation Dynamic"},
		"single-prefixes": {`spec: {addressing: {prefixDelegation: Disabled, warm: {prefixTarget: 1}}}`, "warm.prefixTarget needs prefixDelegation Enabled"},
		"aws-node-static": {`spec: {agent: VPCCNI, addressing: {allocation: Static}}`, "exclude each other"},
		"limit":           {`spec: {maxPods: {limit: 0}}`, "should be greater than or equal to 1"},
	} {
		t.Run(name+" is refused with what to do", func(t *testing.T) {
			require.ErrorContains(t, apply(t, c, "PodNetwork", name, test.spec), test.message)
		})
	}
}
