// SPDX-License-Identifier: Apache-2.0

package eni

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// CreateParams of a pod ENI.
type CreateParams struct {
	Subnet         string
	SecurityGroups []string
	Unit           pool.Unit
	Count          int
	// UsedIndexes are the device indexes of network card 0 that are taken; MaxENIs bounds those that exist.
	UsedIndexes []int
	MaxENIs     int
}

// Create makes an ENI with its prefixes or addresses, attaches it and makes it end with the instance. When it cannot be
// attached it is deleted again; where even that fails, or the agent ends in between, Sweep finds it by its tags.
//
// An error that comes with an ENI says that the ENI is attached, and only will not end with the instance yet.
func (c *Client) Create(ctx context.Context, p CreateParams) (ENI, error) {
	input := &ec2.CreateNetworkInterfaceInput{
		SubnetId: aws.String(p.Subnet), Groups: p.SecurityGroups, Description: aws.String("aws-K8S-" + c.InstanceID),
		// The SDK repeats a call whose reply was lost with the same token, and EC2 makes one ENI of both.
		ClientToken:       aws.String(rand.Text()),
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeNetworkInterface, Tags: c.tags()}},
	}
	if p.Unit == pool.Prefix {
		input.Ipv4PrefixCount = aws.Int32(int32(p.Count)) //nolint:gosec // at most the slots of an ENI
	} else {
		input.SecondaryPrivateIpAddressCount = aws.Int32(int32(p.Count)) //nolint:gosec // as above
	}
	created, err := c.EC2.CreateNetworkInterface(ctx, input)
	if err != nil {
		return ENI{}, fmt.Errorf("creating an ENI in %s: %w", p.Subnet, err)
	}
	e, err := c.parse(*created.NetworkInterface)
	if err == nil {
		e.Ours = true
		err = c.attach(ctx, &e, p)
	}
	if err != nil {
		return ENI{}, errors.Join(err, c.delete(context.WithoutCancel(ctx), aws.ToString(created.NetworkInterface.NetworkInterfaceId)))
	}
	if err := c.DeleteOnTermination(ctx, e); err != nil {
		return e, err
	}
	e.DeleteOnTermination = true
	return e, nil
}

// tags are given at creation: an ENI that is never attached must be known as this instance's.
func (c *Client) tags() []ec2types.Tag {
	tag := func(key, value string) ec2types.Tag {
		return ec2types.Tag{Key: aws.String(key), Value: aws.String(value)}
	}
	return []ec2types.Tag{
		tag(TagInstance, c.InstanceID), tag(TagCluster, c.Cluster), tag(TagOwner, OwnerDovetail), tag(TagCreated, time.Now().UTC().Format(time.RFC3339)),
	}
}

// attach takes the lowest free device index. Somebody else may have taken it meanwhile: then the next.
func (c *Client) attach(ctx context.Context, e *ENI, p CreateParams) error {
	for index := 1; index < p.MaxENIs; index++ {
		if slices.Contains(p.UsedIndexes, index) {
			continue
		}
		err := c.attachAt(ctx, e, index)
		if err == nil {
			return nil
		}
		// The reply to a call that had its effect may have been lost, and this is the answer to the SDK's next try.
		if done, known := c.attached(ctx, e.ID); known == nil && done.AttachmentID != "" {
			*e = done
			return nil
		}
		if Classify(err) != IndexTaken {
			return fmt.Errorf("attaching ENI %s: %w", e.ID, err)
		}
	}
	return &Error{Reason: AttachmentLimit, Message: fmt.Sprintf("attaching ENI %s: no device index below %d is free", e.ID, p.MaxENIs)}
}

func (c *Client) attachAt(ctx context.Context, e *ENI, index int) error {
	const tries, first = 5, 200 * time.Millisecond
	for try := 0; ; try++ {
		out, err := c.EC2.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{
			NetworkInterfaceId: aws.String(e.ID), InstanceId: aws.String(c.InstanceID), DeviceIndex: aws.Int32(int32(index)), //nolint:gosec // at most the ENIs of an instance
		})
		if err == nil {
			e.DeviceIndex, e.AttachmentID = index, aws.ToString(out.AttachmentId)
			return nil
		}
		// All of EC2 knows a new ENI only after a while.
		if Classify(err) != Gone || try == tries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(first << try):
		}
	}
}

// attached returns the ENI with an attachment, when it is attached to this instance.
func (c *Client) attached(ctx context.Context, id string) (ENI, error) {
	enis, err := c.describe(ctx, filter("network-interface-id", id), filter("attachment.instance-id", c.InstanceID))
	if err != nil || len(enis) == 0 {
		return ENI{}, err
	}
	return enis[0], nil
}

// DeleteOnTermination makes EC2 delete the ENI with the instance: an attached one is left behind otherwise.
func (c *Client) DeleteOnTermination(ctx context.Context, e ENI) error {
	_, err := c.EC2.ModifyNetworkInterfaceAttribute(ctx, &ec2.ModifyNetworkInterfaceAttributeInput{
		NetworkInterfaceId: aws.String(e.ID),
		Attachment:         &ec2types.NetworkInterfaceAttachmentChanges{AttachmentId: aws.String(e.AttachmentID), DeleteOnTermination: aws.Bool(true)},
	})
	if err != nil {
		return fmt.Errorf("setting DeleteOnTermination of ENI %s: %w", e.ID, err)
	}
	return nil
}
