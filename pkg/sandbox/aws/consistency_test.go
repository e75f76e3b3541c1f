// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

func TestAnInstanceIsDescribedOnceItIsKnownEverywhere(t *testing.T) {
	latency := immediate()
	latency.Propagation = Span{Min: 200 * time.Millisecond, Max: 200 * time.Millisecond}
	w := newAccountLike(t, latency)
	run, err := w.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: "m5.large", MinCount: ptr[int32](1), MaxCount: ptr[int32](1), SubnetId: ptr(testNodes),
	})
	require.NoError(t, err)
	id := *run.Instances[0].InstanceId
	for { // how often depends on the machine; that it is unknown at first is tested with a longer time
		out, err := w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		if err == nil {
			require.Equal(t, id, *out.Reservations[0].Instances[0].InstanceId)
			break
		}
		requireError(t, err, "InvalidInstanceID.NotFound", "The instance ID '"+id+"' does not exist")
	}
	_, err = w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	_, err = w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err, "a terminated instance is shown for a while")
}

func TestASecurityGroupIsUsedOnceItIsKnownEverywhere(t *testing.T) {
	latency := immediate()
	latency.Propagation = Span{Min: time.Hour, Max: time.Hour}
	w := newAccountLike(t, latency)
	group, err := w.ec2.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{VpcId: ptr(testVPC), GroupName: ptr("new"), Description: ptr("new")})
	require.NoError(t, err)
	id := *group.GroupId
	calls := map[string]func() error{
		"describe": func() error {
			_, err := w.ec2.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: []string{id}})
			return err
		},
		"tag": func() error {
			_, err := w.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: []ec2types.Tag{{Key: ptr("a"), Value: ptr("b")}}})
			return err
		},
		"use": func() error {
			_, err := w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testNodes), Groups: []string{id}})
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			requireError(t, call(), "InvalidGroup.NotFound", "The security group '"+id+"' does not exist")
		})
	}
	w.cloud.mu.Lock()
	w.cloud.groups.get(id).visibleAt = time.Now()
	w.cloud.mu.Unlock()
	for name, call := range calls {
		require.NoError(t, call(), name)
	}
}

func TestASubnetIsUsedOnceItIsKnownEverywhere(t *testing.T) {
	latency := immediate()
	latency.Propagation = Span{Min: time.Hour, Max: time.Hour}
	w := newAccountLike(t, latency)
	subnet, err := w.ec2.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: ptr(testVPC), CidrBlock: ptr("10.0.7.0/24")})
	require.NoError(t, err)
	id, table := *subnet.Subnet.SubnetId, w.cloud.Snapshot().RouteTables[0].ID
	calls := map[string]func() error{
		"describe": func() error {
			_, err := w.ec2.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{SubnetIds: []string{id}})
			return err
		},
		"tag": func() error {
			_, err := w.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: []ec2types.Tag{{Key: ptr("a"), Value: ptr("b")}}})
			return err
		},
		"reserve": func() error {
			_, err := w.ec2.CreateSubnetCidrReservation(t.Context(), &ec2.CreateSubnetCidrReservationInput{
				SubnetId: &id, Cidr: ptr("10.0.7.128/25"), ReservationType: ec2types.SubnetCidrReservationTypePrefix,
			})
			return err
		},
		"route": func() error {
			_, err := w.ec2.AssociateRouteTable(t.Context(), &ec2.AssociateRouteTableInput{SubnetId: &id, RouteTableId: &table})
			return err
		},
		"use": func() error {
			_, err := w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: &id})
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			requireError(t, call(), "InvalidSubnetID.NotFound", "The subnet ID '"+id+"' does not exist")
		})
	}
	byFilter := &ec2.DescribeSubnetsInput{Filters: []ec2types.Filter{{Name: ptr("cidr-block"), Values: []string{"10.0.7.0/24"}}}}
	out, err := w.ec2.DescribeSubnets(t.Context(), byFilter)
	require.NoError(t, err)
	require.Empty(t, out.Subnets)
	_, err = w.ec2.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: ptr(testVPC), CidrBlock: ptr("10.0.7.0/24")})
	requireError(t, err, "InvalidSubnet.Conflict", "")
	w.cloud.mu.Lock()
	w.cloud.subnets.get(id).visibleAt = time.Now()
	w.cloud.mu.Unlock()
	for name, call := range calls {
		require.NoError(t, call(), name)
	}
}
