// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"

	"helm.sh/helm/v3/pkg/chartutil"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/dovetail-dev/dovetail/charts"
)

const (
	// Namespace of Dovetail's own pods.
	Namespace = "kube-system"
	// ServiceAccountPrefix and controller or agent are the users of the API server that Dovetail's programs are.
	ServiceAccountPrefix = "system:serviceaccount:" + Namespace + ":dovetail-"

	fieldManager = "dovetail-sandbox"
)

// install gives the cluster what a user installs: the two charts.
func (d *daemon) install(ctx context.Context) error {
	var crds []*apiextensionsv1.CustomResourceDefinition
	rendered, err := charts.Render(charts.CRDs, charts.Release{Name: charts.CRDs, Namespace: Namespace})
	if err != nil {
		return err
	}
	for _, object := range rendered {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, crd); err != nil {
			return err
		}
		crds = append(crds, crd)
	}
	if _, err := envtest.InstallCRDs(d.control.RESTConfig(), envtest.CRDInstallOptions{CRDs: crds}); err != nil {
		return fmt.Errorf("custom resources: %w", err)
	}
	values, err := d.opts.chartValues()
	if err != nil {
		return err
	}
	objects, err := charts.Render(charts.Dovetail, charts.Release{Name: charts.Dovetail, Namespace: Namespace, Values: values})
	if err != nil {
		return err
	}
	c, err := client.New(d.control.RESTConfig(), client.Options{})
	if err != nil {
		return err
	}
	return applyAll(ctx, c, objects)
}

// chartValues are what differs from an installation on EKS: images that the sandbox has, or has programs for, one replica on the
// one system node, whose role it has, and the endpoint of the AWS APIs in the SDK's own variable. No CNI plugin serves the system node, which
// is therefore not Ready: what runs there uses the node's network and tolerates that. Values of the user's file come first.
func (o Options) chartValues() (map[string]any, error) {
	images := map[string]any{"registry": imageRegistry}
	if o.Kubelet == Real {
		tag, err := imageTag(o.Images)
		if err != nil {
			return nil, err
		}
		images["tag"] = tag
	}
	env := []any{map[string]any{"name": "AWS_ENDPOINT_URL", "value": endpointURL}, map[string]any{"name": "AWS_REGION", "value": Region}}
	values := map[string]any{
		"images":   images,
		"settings": map[string]any{"clusterName": ClusterName},
		"controller": map[string]any{"replicas": 1, "hostNetwork": true, "env": env, "nodeSelector": systemGroup.labels(), "tolerations": []any{
			map[string]any{"key": "CriticalAddonsOnly", "operator": "Exists"},
			map[string]any{"key": corev1.TaintNodeNotReady, "operator": "Exists"},
		}},
		"agent": map[string]any{"env": env},
	}
	if o.Values == "" {
		return values, nil
	}
	given, err := chartutil.ReadValuesFile(o.Values)
	if err != nil {
		return nil, fmt.Errorf("values %s: %w", o.Values, err)
	}
	return chartutil.MergeTables(given, values), nil
}

func applyAll(ctx context.Context, c client.Client, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(fieldManager), client.ForceOwnership)
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

// waitForNode waits until the system node has registered.
func (d *daemon) waitForNode(ctx context.Context) error {
	c, err := client.NewWithWatch(d.control.RESTConfig(), client.Options{})
	if err != nil {
		return err
	}
	watch, err := c.Watch(ctx, &corev1.NodeList{})
	if err != nil {
		return err
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		if _, ok := event.Object.(*corev1.Node); ok {
			return nil
		}
	}
	return fmt.Errorf("watching nodes: %w", context.Cause(ctx))
}

func (d *daemon) waitForController(ctx context.Context) error {
	c, err := client.NewWithWatch(d.control.RESTConfig(), client.Options{})
	if err != nil {
		return err
	}
	watch, err := c.Watch(ctx, &appsv1.DeploymentList{}, client.InNamespace(Namespace), client.MatchingFields{"metadata.name": "dovetail-controller"})
	if err != nil {
		return err
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		deployment, ok := event.Object.(*appsv1.Deployment)
		if !ok {
			continue
		}
		// Available would do with none of one replica: the strategy allows it.
		if deployment.Status.ReadyReplicas == *deployment.Spec.Replicas {
			return nil
		}
	}
	return fmt.Errorf("watching the controller: %w", context.Cause(ctx))
}
