// SPDX-License-Identifier: Apache-2.0

package eni

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Detach begins to take an ENI off the instance. It takes seconds; Sweep deletes the ENI then, also after a crash.
func (c *Client) Detach(ctx context.Context, e ENI) error {
	if _, err := c.EC2.DetachNetworkInterface(ctx, &ec2.DetachNetworkInterfaceInput{AttachmentId: aws.String(e.AttachmentID)}); err != nil {
		return fmt.Errorf("detaching ENI %s: %w", e.ID, err)
	}
	return nil
}

// Sweep deletes the ENIs that were made for this instance and are attached to none: an agent ended between making and
// attaching one, or a reply was lost. Only the tags of this instance and this cluster together make an ENI ours to delete.
func (c *Client) Sweep(ctx context.Context) (deleted []string, err error) {
	enis, err := c.describe(ctx, filter("tag:"+TagInstance, c.InstanceID), filter("tag:"+TagCluster, c.Cluster),
		filter("status", string(ec2types.NetworkInterfaceStatusAvailable)))
	if err != nil {
		return nil, fmt.Errorf("looking for ENIs that were left behind: %w", err)
	}
	var errs []error
	for _, e := range enis {
		if !e.Ours {
			continue
		}
		if err := c.delete(ctx, e.ID); err != nil {
			errs = append(errs, err)
			continue
		}
		deleted = append(deleted, e.ID)
	}
	return deleted, errors.Join(errs...)
}

func (c *Client) delete(ctx context.Context, id string) error {
	_, err := c.EC2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: aws.String(id)})
	if err != nil && Classify(err) != Gone { // the reply to a try before this one was lost
		return fmt.Errorf("deleting ENI %s: %w", id, err)
	}
	return nil
}
