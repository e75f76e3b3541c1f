// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"context"
	"fmt"
	"math"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	ekstypes "github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	v1 "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily/bootstrap"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// joiner launches instances that join the cluster by themselves, as those of managed node groups do.
type joiner struct {
	*theater
	cluster *ekstypes.Cluster
	images  map[string]*string // by architecture
}

func (j *joiner) launch(ctx context.Context, c *Cluster, node *corev1.Node) (instance string, err error) {
	image, err := j.image(ctx, lo.Ternary(node.Labels[corev1.LabelArchStable] == karpv1.ArchitectureArm64, "arm64", "x86_64"))
	if err != nil {
		return "", err
	}
	subnet, err := c.subnetOf(node, j.names)
	if err != nil {
		return "", err
	}
	userData, err := userData(ctx, j.cluster, node)
	if err != nil {
		return "", err
	}
	out, err := j.ec2.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: image, InstanceType: ec2types.InstanceType(node.Labels[corev1.LabelInstanceTypeStable]), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		SubnetId: aws.String(j.names.of(subnet)), UserData: aws.String(userData),
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.Instances[0].InstanceId), nil
}

// image of EKS for the cluster's version.
func (j *joiner) image(ctx context.Context, arch string) (*string, error) {
	if j.cluster == nil {
		cluster, err := eks.NewFromConfig(j.AWS).DescribeCluster(ctx, &eks.DescribeClusterInput{Name: &j.ClusterName})
		if err != nil {
			return nil, err
		}
		j.cluster = cluster.Cluster
	}
	if j.images[arch] == nil {
		image, err := ssm.NewFromConfig(j.AWS).GetParameter(ctx, &ssm.GetParameterInput{
			Name: aws.String("/aws/service/eks/optimized-ami/" + aws.ToString(j.cluster.Version) + "/amazon-linux-2023/" + arch + "/standard/recommended/image_id"),
		})
		if err != nil {
			return nil, err
		}
		j.images[arch] = image.Parameter.Value
	}
	return j.images[arch], nil
}

// subnetOf a node of the stage's zone: its own, or one of its zone that is not for pods.
func (c *Cluster) subnetOf(node *corev1.Node, names mapping) (string, error) {
	if id := c.VPC.Nodes[node.Name].Subnet; id != "" {
		return id, nil
	}
	for _, s := range c.VPC.Subnets {
		pods := lo.ContainsBy(c.ENIConfigs, func(e eniconfig.ENIConfig) bool { return e.Spec.Subnet == s.ID })
		if !pods && names.of(s.Zone) == node.Labels[corev1.LabelTopologyZone] {
			return s.ID, nil
		}
	}
	return "", fmt.Errorf("no subnet of vpc.yaml is in its zone %q", names.back(node.Labels[corev1.LabelTopologyZone]))
}

// defaultMaxPods where a node does not say how many it takes.
const defaultMaxPods = 110

// userData as EKS gives them to a managed node group, in base64.
func userData(ctx context.Context, cluster *ekstypes.Cluster, node *corev1.Node) (string, error) {
	maxPods := int32(defaultMaxPods)
	if pods := node.Status.Allocatable.Pods().Value(); pods > 0 {
		maxPods = int32(min(pods, math.MaxInt32)) //nolint:gosec // bounded
	}
	return bootstrap.Nodeadm{Options: bootstrap.Options{
		ClusterName: aws.ToString(cluster.Name), ClusterEndpoint: aws.ToString(cluster.Endpoint),
		ClusterCIDR: cluster.KubernetesNetworkConfig.ServiceIpv4Cidr, CABundle: cluster.CertificateAuthority.Data,
		KubeletConfig: &v1.KubeletConfiguration{MaxPods: &maxPods},
	}}.Script(ctx)
}
