// SPDX-License-Identifier: Apache-2.0

// Package charts_test renders the charts with Helm's engine and gives the result to a real API server.
package charts_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/charts"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

func render(values map[string]any, name string) ([]*unstructured.Unstructured, error) {
	return charts.Render(name, charts.Release{Name: "dovetail", Namespace: "dovetail-system", Values: values})
}

func TestTheAPIServerTakesEveryObjectOfTheChartsStrictly(t *testing.T) {
	ctx := context.Background()
	c, err := client.New(controlplanetest.Start(t), client.Options{})
	require.NoError(t, err)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "dovetail-system"}}
	require.NoError(t, c.Create(ctx, namespace))
	for name, values := range map[string]map[string]any{
		charts.CRDs: nil,
		charts.Dovetail: {
			"settings":   map[string]any{"clusterName": "test", "interruptionQueue": "queue"},
			"controller": map[string]any{"hostNetwork": true, "env": []any{map[string]any{"name": "AWS_REGION", "value": "us-east-1"}}},
			"agent":      map[string]any{"env": []any{map[string]any{"name": "AWS_REGION", "value": "us-east-1"}}},
		},
	} {
		objects, err := render(values, name)
		require.NoError(t, err)
		require.NotEmpty(t, objects)
		for _, object := range objects {
			err := client.WithFieldValidation(c, metav1.FieldValidationStrict).Create(ctx, object)
			require.NoError(t, err, "%s %s", object.GetKind(), object.GetName())
		}
	}
}

func TestTheAgentRunsOnItsOwnNodesOnly(t *testing.T) {
	objects, err := render(map[string]any{"settings": map[string]any{"clusterName": "test"}}, charts.Dovetail)
	require.NoError(t, err)
	agent := &appsv1.DaemonSet{}
	for _, object := range objects {
		if object.GetKind() == "DaemonSet" {
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, agent))
		}
	}
	terms := agent.Spec.Template.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	require.Len(t, terms, 1)
	wants := scheduling.NewStrictPodRequirements(&corev1.Pod{Spec: agent.Spec.Template.Spec})
	for name, test := range map[string]struct {
		labels map[string]string
		runs   bool
	}{
		"a node of a pod network":              {map[string]string{v1alpha1.LabelPodNetwork: "default", v1alpha1.LabelAgent: "Dovetail"}, true},
		"a node from before the label":         {map[string]string{v1alpha1.LabelPodNetwork: "default"}, true},
		"a node that aws-node serves":          {map[string]string{v1alpha1.LabelPodNetwork: "default", v1alpha1.LabelAgent: "VPCCNI"}, false},
		"a node on no pod network":             {nil, false},
		"a node that Karpenter did not launch": {map[string]string{corev1.LabelOSStable: "linux"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.runs, scheduling.NewLabelRequirements(test.labels).IsCompatible(wants))
		})
	}
}

func TestTheChartSaysThatItNeedsAClusterName(t *testing.T) {
	_, err := render(nil, charts.Dovetail)
	require.ErrorContains(t, err, "settings.clusterName is required: give the name of the EKS cluster, --set settings.clusterName=NAME")
}
