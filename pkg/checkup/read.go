// SPDX-License-Identifier: Apache-2.0

package checkup

import (
	"context"
	"slices"
	"strings"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// needed rights of the controller, without which something that it exists for does not happen. The chart has them all.
var needed = []authorizationv1.ResourceAttributes{
	{Verb: "list", Group: v1alpha1.Group, Resource: "podnetworks"},
	{Verb: "patch", Group: v1alpha1.Group, Resource: "podnetworks", Subresource: "status"},
	{Verb: "list", Group: v1alpha1.Group, Resource: "nodemigrations"},
	{Verb: "patch", Group: v1alpha1.Group, Resource: "nodemigrations", Subresource: "status"},
	{Verb: "list", Group: "crd.k8s.amazonaws.com", Resource: "eniconfigs"},
	{Verb: "list", Group: "karpenter.k8s.aws", Resource: "ec2nodeclasses"},
	{Verb: "create", Group: "karpenter.sh", Resource: "nodeclaims"},
	{Verb: "patch", Group: "karpenter.sh", Resource: "nodeclaims"},
	{Verb: "list", Group: "karpenter.sh", Resource: "nodepools"},
	{Verb: "list", Group: "apps", Resource: "daemonsets"},
	{Verb: "list", Resource: "pods"},
	{Verb: "patch", Resource: "nodes"},
	{Verb: "create", Resource: "events"},
	{Verb: "create", Resource: "pods", Subresource: "eviction"},
}

// Inspect the cluster. What the caller may not see is an error; what is not installed is none.
func Inspect(ctx context.Context, c client.Client, versions discovery.ServerVersionInterface) (Installation, error) {
	i := Installation{Now: time.Now()}
	running, err := versions.ServerVersion()
	if err != nil {
		return i, cli.Explain(err)
	}
	i.Kubernetes = running.Major + "." + strings.TrimSuffix(running.Minor, "+") // EKS says 35+

	deployments, daemonSets, nodes := &appsv1.DeploymentList{}, &appsv1.DaemonSetList{}, &corev1.NodeList{}
	networks, configs, pools, nodeClasses := &v1alpha1.PodNetworkList{}, &eniconfig.ENIConfigList{}, &karpv1.NodePoolList{}, &ec2nodeclass.EC2NodeClassList{}
	for _, kind := range []struct {
		name string
		list client.ObjectList
		opts []client.ListOption
	}{
		{"Deployment", deployments, nil},
		{"DaemonSet", daemonSets, []client.ListOption{client.MatchingLabels{"app.kubernetes.io/name": "dovetail"}}},
		{"Node", nodes, nil},
		{"PodNetwork", networks, nil},
		{"ENIConfig", configs, nil},
		{"NodePool", pools, nil},
		{"NodeClaim", &karpv1.NodeClaimList{}, []client.ListOption{client.Limit(1)}},
		{"EC2NodeClass", nodeClasses, nil},
		{"NodeMigration", &v1alpha1.NodeMigrationList{}, []client.ListOption{client.Limit(1)}},
	} {
		installed, err := cli.List(ctx, c, kind.list, kind.opts...)
		if err != nil {
			return i, err
		}
		if !installed {
			i.Missing = append(i.Missing, kind.name)
		}
	}
	i.Agents, i.Nodes, i.PodNetworks, i.ENIConfigs, i.NodePools, i.NodeClasses = daemonSets.Items, nodes.Items, networks.Items, configs.Items, pools.Items, nodeClasses.Items
	i.Agents = slices.DeleteFunc(i.Agents, func(d appsv1.DaemonSet) bool { return d.Spec.Template.Labels["app.kubernetes.io/component"] != "agent" })
	i.Controllers = slices.DeleteFunc(deployments.Items, func(d appsv1.Deployment) bool {
		ours := isDovetail(d) && d.Spec.Template.Labels["app.kubernetes.io/component"] == "controller"
		return !ours && d.Labels["app.kubernetes.io/name"] != "karpenter"
	})
	if n := slices.IndexFunc(i.Controllers, isDovetail); n >= 0 {
		return i, i.inspectController(ctx, c, i.Controllers[n])
	}
	return i, nil
}

func (i *Installation) inspectController(ctx context.Context, c client.Client, d appsv1.Deployment) error {
	lease := &coordinationv1.Lease{}
	switch err := c.Get(ctx, client.ObjectKey{Namespace: d.Namespace, Name: "karpenter-leader-election"}, lease); {
	case err == nil:
		i.Lease = lease
	case !apierrors.IsNotFound(err):
		return cli.Explain(err)
	}
	for _, attributes := range needed {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:" + d.Namespace + ":" + d.Spec.Template.Spec.ServiceAccountName, ResourceAttributes: &attributes,
		}}
		switch err := c.Create(ctx, review); {
		case apierrors.IsForbidden(err):
			i.Unchecked = true
			return nil
		case err != nil:
			return cli.Explain(err)
		case !review.Status.Allowed:
			resource := attributes.Resource
			if attributes.Subresource != "" {
				resource += "/" + attributes.Subresource
			}
			i.Denied = append(i.Denied, attributes.Verb+" "+resource)
		}
	}
	return nil
}
