// SPDX-License-Identifier: Apache-2.0

// Package ec2read asks EC2 for what more than one part of the controller wants to know of a VPC: all pages of an answer, and by filter,
// as an id that does not exist would fail the whole call. It returns EC2's errors as they are; who asked says what for.
//
// What it calls is in the policy of every controller (iam/policies/controller.json). A call that only a feature needs stays with the feature.
package ec2read

import (
	"context"
	"iter"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const (
	// ValuesPerFilter is how many values EC2 takes in a filter.
	ValuesPerFilter = 200
	// enisPerPage is the most that EC2 returns at once.
	enisPerPage = 1000
)

// Filter by one or another of the values.
func Filter(name string, values ...string) ec2types.Filter {
	return ec2types.Filter{Name: aws.String(name), Values: values}
}

// Tag is the value of a resource's tag, "" where it has none.
func Tag(tags []ec2types.Tag, key string) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// Subnets by a filter with any number of values, none for no value.
func Subnets(ctx context.Context, api ec2.DescribeSubnetsAPIClient, name string, values ...string) ([]ec2types.Subnet, error) {
	var found []ec2types.Subnet
	for chunk := range slices.Chunk(values, ValuesPerFilter) {
		pages := ec2.NewDescribeSubnetsPaginator(api, &ec2.DescribeSubnetsInput{Filters: []ec2types.Filter{Filter(name, chunk...)}})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			found = append(found, page.Subnets...)
		}
	}
	return found, nil
}

// GroupVPCs is the VPC of each of the security groups that exist.
func GroupVPCs(ctx context.Context, api ec2.DescribeSecurityGroupsAPIClient, ids []string) (map[string]string, error) {
	found := map[string]string{}
	for chunk := range slices.Chunk(ids, ValuesPerFilter) {
		pages := ec2.NewDescribeSecurityGroupsPaginator(api, &ec2.DescribeSecurityGroupsInput{Filters: []ec2types.Filter{Filter("group-id", chunk...)}})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, g := range page.SecurityGroups {
				found[aws.ToString(g.GroupId)] = aws.ToString(g.VpcId)
			}
		}
	}
	return found, nil
}

// NetworkInterfaces that all filters match, a page at a time: a cluster can have tens of thousands. Filters and pages take the call out
// of EC2's smaller request bucket. An error is the last that comes.
func NetworkInterfaces(ctx context.Context, api ec2.DescribeNetworkInterfacesAPIClient, filters ...ec2types.Filter) iter.Seq2[*ec2types.NetworkInterface, error] {
	return func(yield func(*ec2types.NetworkInterface, error) bool) {
		pages := ec2.NewDescribeNetworkInterfacesPaginator(api, &ec2.DescribeNetworkInterfacesInput{Filters: filters, MaxResults: aws.Int32(enisPerPage)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page.NetworkInterfaces {
				if !yield(&page.NetworkInterfaces[i], nil) {
					return
				}
			}
		}
	}
}

// ReservationsAPI is what Reservations calls. The SDK has no interface and no paginator for it.
type ReservationsAPI interface {
	GetSubnetCidrReservations(context.Context, *ec2.GetSubnetCidrReservationsInput, ...func(*ec2.Options)) (*ec2.GetSubnetCidrReservationsOutput, error)
}

// Reservations are a subnet's IPv4 CIDR reservations.
func Reservations(ctx context.Context, api ReservationsAPI, subnet string) ([]ec2types.SubnetCidrReservation, error) {
	var found []ec2types.SubnetCidrReservation
	input := &ec2.GetSubnetCidrReservationsInput{SubnetId: aws.String(subnet)}
	for {
		page, err := api.GetSubnetCidrReservations(ctx, input)
		if err != nil {
			return nil, err
		}
		found = append(found, page.SubnetIpv4CidrReservations...)
		if input.NextToken = page.NextToken; aws.ToString(input.NextToken) == "" {
			return found, nil
		}
	}
}
