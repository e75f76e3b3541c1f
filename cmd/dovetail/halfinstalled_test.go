// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/dovetail-dev/dovetail/charts"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// install some of the chart's kinds.
func install(t *testing.T, config *rest.Config, names ...string) {
	t.Helper()
	objects, err := charts.Render(charts.CRDs, charts.Release{Name: charts.CRDs})
	require.NoError(t, err)
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, object := range objects {
		if slices.Contains(names, object.GetName()) {
			crd := &apiextensionsv1.CustomResourceDefinition{}
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, crd))
			crds = append(crds, crd)
		}
	}
	require.Len(t, crds, len(names))
	_, err = envtest.InstallCRDs(config, envtest.CRDInstallOptions{CRDs: crds})
	require.NoError(t, err)
}

// The cluster gets its kinds one after the other: what is not there yet is named, and what is there is told of.
func TestEveryCommandOnAClusterWithoutDovetailAndWithHalfOfIt(t *testing.T) {
	withoutCredentials(t)
	config := controlplanetest.Start(t)
	c := useCluster(t, config)
	serviceAccount(t, c)
	require.NoError(t, c.Create(t.Context(), pending("alone")))
	for _, stage := range []struct {
		name string
		make func()
		// say by command what it must: an error or its output.
		say map[string]string
	}{
		{
			"nothing", func() {}, map[string]string{
				"status": "install the chart dovetail-crd", "capacity": "install the chart dovetail-crd", "plan": "this cluster does not know PodNetworks yet",
				"doctor": "does not have PodNetwork, ENIConfig, NodePool, NodeClaim, EC2NodeClass", "why alone": "NoNodePool",
			},
		},
		{
			"PodNetworks alone", func() {
				install(t, config, "podnetworks.dovetail.dev")
				require.NoError(t, useCluster(t, config).Create(t.Context(), &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}))
			}, map[string]string{
				"status": "default", "capacity": "default", "plan": "this cluster has no Karpenter",
				"doctor": "does not have ENIConfig, NodePool, NodeClaim, EC2NodeClass", "why alone": "NoNodePool",
			},
		},
		{
			"all but ENIConfigs", func() {
				install(t, config, "nodepools.karpenter.sh", "nodeclaims.karpenter.sh", "ec2nodeclasses.karpenter.k8s.aws", "nodemigrations.dovetail.dev")
			}, map[string]string{
				"status": "default", "capacity": "default", "plan": "this cluster does not know ENIConfigs", "doctor": "does not have ENIConfig", "why alone": "NoNodePool",
			},
		},
	} {
		stage.make()
		for command, said := range stage.say {
			t.Run(command+" with "+stage.name, func(t *testing.T) {
				args := []string{command}
				if command == "why alone" {
					args = []string{"why", "alone"}
				}
				out, err := run(t, args...)
				if err != nil {
					out += err.Error()
				}
				require.Contains(t, out, said)
				for _, raw := range []string{"no matches for kind", "could not find the requested resource"} {
					require.NotContains(t, out, raw)
				}
			})
		}
	}
}
