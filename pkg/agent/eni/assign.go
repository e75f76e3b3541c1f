// SPDX-License-Identifier: Apache-2.0

package eni

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// Assign adds prefixes or addresses to an attached ENI and returns them.
func (c *Client) Assign(ctx context.Context, id string, unit pool.Unit, count int) ([]netip.Prefix, error) {
	input := &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: aws.String(id)}
	if unit == pool.Prefix {
		input.Ipv4PrefixCount = aws.Int32(int32(count)) //nolint:gosec // at most the slots of an ENI
	} else {
		input.SecondaryPrivateIpAddressCount = aws.Int32(int32(count)) //nolint:gosec // as above
	}
	out, err := c.EC2.AssignPrivateIpAddresses(ctx, input, c.assignRetryer)
	if err != nil {
		return nil, fmt.Errorf("assigning %d of unit %s to ENI %s: %w", count, unit, id, err)
	}
	var assigned []netip.Prefix
	for _, p := range out.AssignedIpv4Prefixes {
		prefix, err := parseBlock(p.Ipv4Prefix)
		if err != nil {
			return nil, fmt.Errorf("ENI %s: prefix: %w", id, err)
		}
		assigned = append(assigned, prefix)
	}
	for _, a := range out.AssignedPrivateIpAddresses {
		single, err := parseIPv4(a.PrivateIpAddress)
		if err != nil {
			return nil, fmt.Errorf("ENI %s: address: %w", id, err)
		}
		assigned = append(assigned, netip.PrefixFrom(single, 32))
	}
	return assigned, nil
}

// assignRetryer repeats what EC2 refused for its rate, and nothing else. Assigning by count has no client token: repeated
// after a lost reply, as the SDK would do, it gives twice as much. The caller looks at what the ENI has before it asks again.
func (c *Client) assignRetryer(o *ec2.Options) {
	if c.once == nil {
		c.once = retry.NewStandard(func(o *retry.StandardOptions) {
			o.Retryables = []retry.IsErrorRetryable{retry.RetryableErrorCode{Codes: retry.DefaultThrottleErrorCodes}}
		})
	}
	o.Retryer = c.once
}

// Unassign gives prefixes and addresses of an ENI back to the subnet.
func (c *Client) Unassign(ctx context.Context, id string, prefixes []netip.Prefix) error {
	input := &ec2.UnassignPrivateIpAddressesInput{NetworkInterfaceId: aws.String(id)}
	for _, p := range prefixes {
		if p.IsSingleIP() {
			input.PrivateIpAddresses = append(input.PrivateIpAddresses, p.Addr().String())
		} else {
			input.Ipv4Prefixes = append(input.Ipv4Prefixes, p.String())
		}
	}
	if _, err := c.EC2.UnassignPrivateIpAddresses(ctx, input); err != nil {
		return fmt.Errorf("returning %v of ENI %s: %w", prefixes, id, err)
	}
	return nil
}
