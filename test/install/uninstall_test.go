// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// uninstallCharts as docs/upgrading.md says: definitions and their objects outlive the charts, until they are told to go too.
func uninstallCharts(ctx context.Context, t *testing.T) {
	objects, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	networks := objects.Resource(schema.GroupVersionResource{Group: "dovetail.dev", Version: "v1alpha1", Resource: "podnetworks"})

	_, err = helm(ctx, "uninstall", "dovetail", "--namespace", systemNamespace, "--wait")
	require.NoError(t, err)
	kept, err := networks.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "dovetail.dev/v1alpha1", "kind": "PodNetwork", "metadata": map[string]any{"name": "kept"}, "spec": map[string]any{},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = helm(ctx, "uninstall", "dovetail-crd", "--namespace", systemNamespace, "--wait")
	require.NoError(t, err)
	found, err := networks.Get(ctx, "kept", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, kept.GetUID(), found.GetUID())
	left, _ := dovetailObjects(ctx, t, objects)
	for _, object := range left {
		require.True(t, strings.HasPrefix(object, "CustomResourceDefinition "), object)
	}
	require.Len(t, left, 8)

	_, err = helm(ctx, "upgrade", "--install", "dovetail-crd", "../../charts/dovetail-crd", "--namespace", systemNamespace, "--set", "keep=false")
	require.NoError(t, err)
	_, err = helm(ctx, "uninstall", "dovetail-crd", "--namespace", systemNamespace, "--wait")
	require.NoError(t, err)
	left, groups := dovetailObjects(ctx, t, objects)
	require.Empty(t, left)
	require.Empty(t, groups)
}

// dovetailObjects lists what belongs to a release of the charts, and which API groups of theirs there are.
func dovetailObjects(ctx context.Context, t *testing.T, objects dynamic.Interface) (left, groups []string) {
	discovered, err := client.Discovery().ServerPreferredResources()
	require.NoError(t, err)
	for _, group := range discovered {
		for _, domain := range []string{"dovetail.dev/", "karpenter.sh/", "karpenter.k8s.aws/", "crd.k8s.amazonaws.com/"} {
			if strings.HasPrefix(group.GroupVersion, domain) {
				groups = append(groups, group.GroupVersion)
			}
		}
		version, err := schema.ParseGroupVersion(group.GroupVersion)
		require.NoError(t, err)
		for _, resource := range group.APIResources {
			if !slices.Contains(resource.Verbs, "list") {
				continue
			}
			list, err := objects.Resource(version.WithResource(resource.Name)).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance in (dovetail, dovetail-crd)"})
			require.NoError(t, err)
			for _, object := range list.Items {
				if object.GetDeletionTimestamp() == nil && object.GetKind() != "ControllerRevision" {
					left = append(left, object.GetKind()+" "+object.GetName())
				}
			}
			if resource.Kind != "CustomResourceDefinition" {
				continue
			}
			list, err = objects.Resource(version.WithResource(resource.Name)).List(ctx, metav1.ListOptions{})
			require.NoError(t, err)
			for _, object := range list.Items { // they carry no label of a release
				left = append(left, object.GetKind()+" "+object.GetName())
			}
		}
	}
	return left, groups
}
