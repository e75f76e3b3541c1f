// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/awsnode"
)

// neighbours of the nodes in each of their subnets: what else a team has there, with the name that EC2 shows and how many
// addresses it takes. None of it is ever asked for anything.
var neighbours = []struct {
	service, description string
	enis                 int
}{
	{"amazon-elb", "ELB net/internal", 14},
	{"amazon-aws", "VPC Endpoint Interface", 5},
	{"kafka", "Amazon MSK broker", 3},
}

// startNeighbours lets other services take their addresses of the node subnets.
func (d *daemon) startNeighbours(ctx context.Context) error {
	api := ec2.NewFromConfig(d.config)
	for _, in := range nodeSubnets {
		for _, n := range neighbours {
			for range n.enis {
				made, err := api.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{
					SubnetId: awssdk.String(in.id), Groups: []string{GroupID}, Description: awssdk.String(n.description),
				})
				if err != nil {
					return fmt.Errorf("%s in %s: %w", n.description, in.name, err)
				}
				if err := d.cloud.AttachToService(awssdk.ToString(made.NetworkInterface.NetworkInterfaceId), n.service); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// startVPCCNI installs what stands in for aws-node, and launches the node group that it has served for long.
func (d *daemon) startVPCCNI(ctx context.Context) error {
	daemonSet, err := awsnode.DaemonSet(imageRegistry, ClusterName,
		corev1.EnvVar{Name: "AWS_ENDPOINT_URL", Value: endpointURL}, corev1.EnvVar{Name: "AWS_REGION", Value: Region})
	if err != nil {
		return err
	}
	c, err := client.New(d.control.RESTConfig(), client.Options{})
	if err != nil {
		return err
	}
	if err := c.Create(ctx, daemonSet); err != nil {
		return fmt.Errorf("DaemonSet aws-node: %w", err)
	}
	return d.launch(ctx, appsGroup)
}
