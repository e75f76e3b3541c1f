// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	awsutils "github.com/aws/karpenter-provider-aws/pkg/utils"
	"github.com/aws/smithy-go"
	corev1 "k8s.io/api/core/v1"
)

const (
	// labelNodeGroup is EKS's, on nodes of managed node groups.
	labelNodeGroup = "eks.amazonaws.com/nodegroup"
	// tagGroup is EC2 Auto Scaling's, on the instances of a group.
	tagGroup = "aws:autoscaling:groupName"
	// notFound is EC2's code for an instance that ended a while ago.
	notFound = "InvalidInstanceID.NotFound"
)

// terminate a node's instance. It returns the group that will replace it, "" for none. An instance that has ended already is terminated.
func (c *Controller) terminate(ctx context.Context, node *corev1.Node) (group string, err error) {
	id, err := awsutils.ParseInstanceID(node.Spec.ProviderID)
	if err != nil || !strings.HasPrefix(id, "i-") {
		return "", fmt.Errorf("it has no EC2 instance to terminate (provider id %q): set spec.after to Leave", node.Spec.ProviderID)
	}
	if group, err = c.groupOf(ctx, node, id); err != nil {
		return "", ignoreGone(err)
	}
	if _, err := c.EC2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		return group, ignoreGone(fmt.Errorf("terminating instance %s, %w", id, err))
	}
	return group, nil
}

func (c *Controller) groupOf(ctx context.Context, node *corev1.Node, instance string) (string, error) {
	if name := node.Labels[labelNodeGroup]; name != "" {
		return "managed node group " + name, nil
	}
	out, err := c.EC2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{instance}})
	if err != nil {
		return "", fmt.Errorf("looking for the Auto Scaling group of instance %s, %w", instance, err)
	}
	for _, reservation := range out.Reservations {
		for _, found := range reservation.Instances {
			for _, tag := range found.Tags {
				if aws.ToString(tag.Key) == tagGroup {
					return "Auto Scaling group " + aws.ToString(tag.Value), nil
				}
			}
		}
	}
	return "", nil
}

func ignoreGone(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == notFound {
		return nil
	}
	return err
}
