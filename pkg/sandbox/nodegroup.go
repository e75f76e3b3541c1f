// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"encoding/base64"
	"fmt"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	v1 "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily/bootstrap"
	corev1 "k8s.io/api/core/v1"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
)

const (
	systemProfile = "eks-system-" + ClusterName
	appsProfile   = "eks-apps-" + ClusterName

	// nodeGroupTag is on the instances of managed node groups.
	nodeGroupTag = "eks:nodegroup-name"
	// nodeGroupLabel is on their nodes.
	nodeGroupLabel = "eks.amazonaws.com/nodegroup"

	groupType = "m5.large"
	// groupMaxPods is what EKS tells a node group's kubelets: a pod for each secondary address of the type, and two.
	groupMaxPods = 29
)

// nodeGroup is a managed node group without its group: instances that nobody starts anew.
type nodeGroup struct {
	name, profile string
	// subnets get an instance each.
	subnets []subnet
	// taint keeps off what does not tolerate it; "" for none.
	taint string
}

var (
	// systemGroup is where the controller runs.
	systemGroup = nodeGroup{name: "system", profile: systemProfile, subnets: nodeSubnets[:1], taint: "CriticalAddonsOnly"}
	// appsGroup is older than Karpenter in the cluster, and runs whatever comes.
	appsGroup = nodeGroup{name: "apps", profile: appsProfile, subnets: nodeSubnets}
)

// startSystemNode launches the instance of a managed node group, and waits until the controller runs there.
func (d *daemon) startSystemNode(ctx context.Context) error {
	if err := d.launch(ctx, systemGroup); err != nil {
		return err
	}
	if d.opts.Bare {
		return d.waitForNode(ctx)
	}
	return d.waitForController(ctx)
}

// launch an instance in each of the group's subnets, as its Auto Scaling group does.
func (d *daemon) launch(ctx context.Context, group nodeGroup) error {
	image, err := ssm.NewFromConfig(d.config).GetParameter(ctx, &ssm.GetParameterInput{
		Name: awssdk.String("/aws/service/eks/optimized-ami/" + controlplane.Version + "/amazon-linux-2023/x86_64/standard/recommended/image_id"),
	})
	if err != nil {
		return err
	}
	userData, err := d.userData(ctx, group)
	if err != nil {
		return err
	}
	for _, in := range group.subnets {
		_, err = ec2.NewFromConfig(d.config).RunInstances(ctx, &ec2.RunInstancesInput{
			ImageId: image.Parameter.Value, InstanceType: groupType, MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1),
			SubnetId: awssdk.String(in.id), SecurityGroupIds: []string{GroupID},
			IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: awssdk.String(group.profile)},
			UserData:           awssdk.String(userData),
			TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance, Tags: []ec2types.Tag{
				{Key: awssdk.String(nodeGroupTag), Value: awssdk.String(group.name)},
				{Key: awssdk.String("kubernetes.io/cluster/" + ClusterName), Value: awssdk.String("owned")},
			}}},
		})
		if err != nil {
			return fmt.Errorf("launching a node of group %s: %w", group.name, err)
		}
	}
	return nil
}

// userData is what EKS gives the instances of a managed node group, in base64.
func (d *daemon) userData(ctx context.Context, group nodeGroup) (string, error) {
	options := bootstrap.Options{
		ClusterName: ClusterName, ClusterEndpoint: "https://" + d.endpoint.String(), ClusterCIDR: awssdk.String(serviceCIDR),
		CABundle:      awssdk.String(base64.StdEncoding.EncodeToString(d.control.CA())),
		KubeletConfig: &v1.KubeletConfiguration{MaxPods: awssdk.Int32(groupMaxPods)},
		Labels:        map[string]string{nodeGroupLabel: group.name},
	}
	if group.taint != "" {
		options.Taints = []corev1.Taint{{Key: group.taint, Value: "true", Effect: corev1.TaintEffectNoSchedule}}
	}
	return bootstrap.Nodeadm{Options: options}.Script(ctx)
}

// labels that only the group's nodes have.
func (g nodeGroup) labels() map[string]any { return map[string]any{nodeGroupLabel: g.name} }
