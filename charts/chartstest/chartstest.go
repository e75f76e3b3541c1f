// SPDX-License-Identifier: Apache-2.0

// Package chartstest gives tests an API server that knows the chart's kinds.
package chartstest

import (
	"testing"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/dovetail-dev/dovetail/charts"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// StartAPIServer starts a real API server with the custom resources of charts/dovetail-crd: Karpenter's, AWS's and Dovetail's.
func StartAPIServer(t testing.TB) *rest.Config {
	t.Helper()
	config := controlplanetest.Start(t)
	installCRDs(t, config)
	return config
}

// StartFull starts kube-controller-manager and kube-scheduler too.
func StartFull(t testing.TB) *rest.Config {
	t.Helper()
	config := controlplanetest.StartFull(t).RESTConfig()
	installCRDs(t, config)
	return config
}

func installCRDs(t testing.TB, config *rest.Config) {
	t.Helper()
	objects, err := charts.Render(charts.CRDs, charts.Release{Name: charts.CRDs})
	require.NoError(t, err)
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, object := range objects {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, crd))
		crds = append(crds, crd)
	}
	_, err = envtest.InstallCRDs(config, envtest.CRDInstallOptions{CRDs: crds})
	require.NoError(t, err)
}
