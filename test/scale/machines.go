// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	nodeGroup = "eks.amazonaws.com/nodegroup"
	// wideSubnet is one of the sandbox's that have room for thousands of nodes.
	wideSubnet = "node-a-wide"
	// perRequest instances: EC2 lets an account launch a thousand at once, then two a second.
	perRequest = 200
)

// machines launches as many instances as there will be nodes, as those of the managed node group are, and waits until they are
// nodes: what the sandbox can do by itself. Then it ends them.
func (l *load) machines(ctx context.Context) error {
	launch, err := l.likeNodeGroup(ctx)
	if err != nil {
		return err
	}
	started := time.Now()
	var ids []string
	for left := l.nodes(); left > 0; left -= perRequest {
		request := *launch                                                                         // the SDK puts a token into it
		request.MinCount, request.MaxCount = aws.Int32(1), aws.Int32(int32(min(left, perRequest))) //nolint:gosec // hundreds
		out, err := l.sandbox.EC2.RunInstances(ctx, &request)
		if err != nil {
			return fmt.Errorf("launching instances: %w", err)
		}
		for _, instance := range out.Instances {
			ids = append(ids, aws.ToString(instance.InstanceId))
		}
	}
	for {
		nodes, err := l.countKind(ctx, "", "Node", nodeGroup)
		if err != nil {
			return err
		}
		if nodes > len(ids) { // the node group has one of its own
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d nodes: %w", nodes-1, len(ids), ctx.Err())
		case <-time.After(look):
		}
	}
	fmt.Printf("%-40s %8.1f s\n", fmt.Sprintf("%d instances registered as nodes", len(ids)), time.Since(started).Seconds())
	return l.endMachines(ctx, ids)
}

func (l *load) endMachines(ctx context.Context, ids []string) error {
	ended := map[string]bool{}
	for _, id := range ids {
		ended[id] = true
	}
	if _, err := l.sandbox.EC2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids}); err != nil {
		return fmt.Errorf("ending the instances: %w", err)
	}
	var nodes corev1.NodeList
	if err := l.sandbox.Kube.List(ctx, &nodes, client.HasLabels{nodeGroup}); err != nil {
		return err
	}
	for i := range nodes.Items {
		if node := &nodes.Items[i]; ended[node.Status.NodeInfo.MachineID] {
			if err := l.sandbox.Kube.Delete(ctx, node); err != nil {
				return err
			}
		}
	}
	return nil
}

// likeNodeGroup describes a launch like that of the managed node group's instance, in a subnet with room.
func (l *load) likeNodeGroup(ctx context.Context) (*ec2.RunInstancesInput, error) {
	instances, err := l.sandbox.EC2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{
		Filters: []ec2types.Filter{{Name: aws.String("tag-key"), Values: []string{"eks:nodegroup-name"}}},
	})
	if err != nil || len(instances.Reservations) == 0 {
		return nil, fmt.Errorf("finding the managed node group's instance: %w", err)
	}
	example := instances.Reservations[0].Instances[0]
	userData, err := l.sandbox.EC2.DescribeInstanceAttribute(ctx, &ec2.DescribeInstanceAttributeInput{
		InstanceId: example.InstanceId, Attribute: ec2types.InstanceAttributeNameUserData,
	})
	if err != nil {
		return nil, err
	}
	subnets, err := l.sandbox.EC2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{
		Filters: []ec2types.Filter{{Name: aws.String("tag:Name"), Values: []string{wideSubnet}}},
	})
	if err != nil || len(subnets.Subnets) == 0 {
		return nil, fmt.Errorf("finding subnet %s: %w", wideSubnet, err)
	}
	return &ec2.RunInstancesInput{
		ImageId: example.ImageId, InstanceType: example.InstanceType, UserData: userData.UserData.Value,
		SubnetId: subnets.Subnets[0].SubnetId,
	}, nil
}
