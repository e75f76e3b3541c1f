// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// cloud is what aws-node does with EC2. Unlike Dovetail's agent it uses the primary ENI too, and the node's own subnet.
type cloud struct {
	*eni.Client
	groups []string
}

// own lists the primary ENI and those that were made for pods.
func (c cloud) own(ctx context.Context) ([]eni.ENI, error) {
	enis, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(enis, func(e eni.ENI) bool {
		primary := e.NetworkCard == 0 && e.DeviceIndex == 0
		return e.Detaching || !e.Ours && !primary
	}), nil
}

func (c cloud) do(ctx context.Context, d demand, a action) error {
	if a.create {
		return c.create(ctx, d)
	}
	_, err := c.Assign(ctx, a.to.ID, pool.SingleAddress, a.assign)
	if err == nil || a.assign == 1 {
		return err
	}
	_, err = c.Assign(ctx, a.to.ID, pool.SingleAddress, 1)
	return err
}

// outOfAddresses is what aws-node takes for an exhausted subnet: it knows no other code.
func outOfAddresses(err error) bool {
	code := eni.Code(err)
	return code == "InsufficientFreeAddressesInSubnet" || code == "InsufficientCidrBlocks"
}

// create makes an ENI with as many addresses as it holds, and attaches it.
func (c cloud) create(ctx context.Context, d demand) error {
	tag := func(key, value string) ec2types.Tag {
		return ec2types.Tag{Key: aws.String(key), Value: aws.String(value)}
	}
	made, err := c.EC2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{
		SubnetId: aws.String(d.enis[0].Subnet), Groups: c.groups, Description: aws.String("aws-K8S-" + c.InstanceID),
		SecondaryPrivateIpAddressCount: aws.Int32(int32(d.slots)), //nolint:gosec // at most 49
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeNetworkInterface, Tags: []ec2types.Tag{
			tag(eni.TagInstance, c.InstanceID), tag(eni.TagCluster, c.Cluster), tag(eni.TagOwner, "amazon-vpc-cni"),
			tag(eni.TagCreated, time.Now().UTC().Format(time.RFC3339)),
		}}},
	})
	if err != nil {
		return fmt.Errorf("creating an ENI: %w", err)
	}
	id := made.NetworkInterface.NetworkInterfaceId
	if err := c.attach(ctx, id, freeIndex(d.enis)); err != nil {
		_, lost := c.EC2.DeleteNetworkInterface(context.WithoutCancel(ctx), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: id})
		return errors.Join(fmt.Errorf("attaching ENI %s: %w", *id, err), lost)
	}
	return nil
}

// attach waits for what EC2 does not know everywhere at once.
func (c cloud) attach(ctx context.Context, id *string, index int32) error {
	available := ec2.NewNetworkInterfaceAvailableWaiter(c.EC2, func(o *ec2.NetworkInterfaceAvailableWaiterOptions) {
		o.MinDelay, o.MaxDelay = 100*time.Millisecond, time.Second
	})
	if err := available.Wait(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{*id}}, time.Minute); err != nil {
		return err
	}
	out, err := c.EC2.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{
		NetworkInterfaceId: id, InstanceId: aws.String(c.InstanceID), DeviceIndex: aws.Int32(index),
	})
	if err != nil {
		return err
	}
	return c.DeleteOnTermination(ctx, eni.ENI{ID: *id, AttachmentID: aws.ToString(out.AttachmentId)})
}

func freeIndex(enis []eni.ENI) int32 {
	for index := int32(1); ; index++ {
		if !slices.ContainsFunc(enis, func(e eni.ENI) bool { return e.DeviceIndex == int(index) }) {
			return index
		}
	}
}
