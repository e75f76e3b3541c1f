// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/plan/survey"
)

// page of a list: the objects of a large cluster in one answer would take the API server's memory, and ours.
const page = 500

// Source is a cluster to read.
type Source struct {
	Cluster client.Client
	// AWS loads the SDK's configuration for a Region.
	AWS func(ctx context.Context, region string) (aws.Config, error)
}

// FromCluster reads a cluster and its VPC. All of it must be readable: what is not in the picture is not rehearsed.
func FromCluster(ctx context.Context, source Source) (*Cluster, error) {
	c := &Cluster{}
	for _, read := range []struct {
		what string
		list client.ObjectList
	}{
		{"NodePools", &karpv1.NodePoolList{}}, {"EC2NodeClasses", &ec2nodeclass.EC2NodeClassList{}}, {"ENIConfigs", &eniconfig.ENIConfigList{}},
		{"PodNetworks", &v1alpha1.PodNetworkList{}}, {"Nodes", &corev1.NodeList{}}, {"PodDisruptionBudgets", &policyv1.PodDisruptionBudgetList{}},
		{"PriorityClasses", &schedulingv1.PriorityClassList{}}, {"Deployments", &appsv1.DeploymentList{}}, {"StatefulSets", &appsv1.StatefulSetList{}},
		{"DaemonSets", &appsv1.DaemonSetList{}}, {"ReplicaSets", &appsv1.ReplicaSetList{}}, {"Jobs", &batchv1.JobList{}}, {"Pods", &corev1.PodList{}},
	} {
		if err := c.addAll(ctx, source.Cluster, read.list); err != nil {
			return nil, fmt.Errorf("reading %s: %w", read.what, err)
		}
		if len(c.Nodes) > MaxNodes {
			return nil, c.Check()
		}
	}
	c.sort()
	if len(c.NodePools) == 0 {
		return nil, errors.New("this cluster has no NodePools: a rehearsal is for nodes that Karpenter launches (a new NodePool can be rehearsed with --from-dir)")
	}
	return c, c.readVPC(ctx, source)
}

// addAll objects of a kind. A kind that the cluster does not know has none.
func (c *Cluster) addAll(ctx context.Context, from client.Client, list client.ObjectList) error {
	for next := ""; ; {
		installed, err := cli.List(ctx, from, list, client.Limit(page), client.Continue(next))
		if err != nil || !installed {
			return err
		}
		err = meta.EachListItem(list, func(object runtime.Object) error {
			c.Add(object.(client.Object))
			return nil
		})
		if err != nil {
			return err
		}
		if next = list.GetContinue(); next == "" {
			return nil
		}
	}
}

// readVPC of the cluster's nodes: the plan's survey finds it.
func (c *Cluster) readVPC(ctx context.Context, source Source) error {
	name := ""
	if len(c.PodNetworks) > 0 {
		name = c.PodNetworks[0].Name
	}
	facts, err := survey.Read(ctx, survey.Params{Cluster: source.Cluster, Name: name, AWS: source.AWS})
	if err != nil {
		return err
	}
	if facts.VPC == nil {
		var why []string
		for _, unread := range facts.Unread {
			if strings.Contains(unread.What, "VPC") {
				why = append(why, unread.What+": "+unread.Why)
			}
		}
		return fmt.Errorf("the cluster's VPC cannot be read (%s): a rehearsal needs its shape; --from-dir takes it from a vpc.yaml", strings.Join(why, "; "))
	}
	cfg, err := source.AWS(ctx, facts.Region)
	if err != nil {
		return err
	}
	nodes := map[string]string{}
	for _, node := range facts.Nodes {
		if node.Instance != "" && !node.Fargate && !node.Windows {
			nodes[node.Instance] = node.Name
		}
	}
	c.VPC, err = readVPC(ctx, ec2.NewFromConfig(cfg), facts.VPC, nodes)
	return err
}
