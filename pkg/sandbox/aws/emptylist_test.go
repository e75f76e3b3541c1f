// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
)

func TestListsThatEC2AlwaysWritesAreThereWithNothingInThem(t *testing.T) {
	w := newWorld(t)
	_, err := w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testNodes)})
	require.NoError(t, err)
	interfaces, err := w.ec2.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{})
	require.NoError(t, err)
	require.NotNil(t, interfaces.NetworkInterfaces[0].TagSet)
	require.Nil(t, interfaces.NetworkInterfaces[0].Ipv4Prefixes)
	groups, err := w.ec2.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{})
	require.NoError(t, err)
	permission := groups.SecurityGroups[0].IpPermissionsEgress[0]
	require.NotNil(t, permission.UserIdGroupPairs)
	require.Empty(t, permission.UserIdGroupPairs)
	require.NotEmpty(t, permission.IpRanges)
	require.NotNil(t, permission.PrefixListIds)
	require.NotNil(t, permission.Ipv6Ranges)
}

func TestEveryEmptyListIsAListOfAReply(t *testing.T) {
	lists, seen := map[string]bool{}, map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(structure reflect.Type) {
		for structure.Kind() == reflect.Pointer || structure.Kind() == reflect.Slice {
			structure = structure.Elem()
		}
		if structure.Kind() != reflect.Struct || seen[structure] {
			return
		}
		seen[structure] = true
		for field := range structure.Fields() {
			if isList(field.Type) {
				lists[structure.Name()+"."+field.Name] = true
			}
			walk(field.Type)
		}
	}
	for action := range ec2Actions() {
		_, _, out := method(t, clientOf("http://127.0.0.1"), action)
		walk(out)
	}
	for list := range emptyLists {
		require.True(t, lists[list], list)
	}
}
