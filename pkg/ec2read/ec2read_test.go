// SPDX-License-Identifier: Apache-2.0

package ec2read_test

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/ec2read"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// missing ids of a kind, so many that several calls are needed.
func missing(kind string) []string {
	var ids []string
	for i := range 2*ec2read.ValuesPerFilter + 1 {
		ids = append(ids, fmt.Sprintf("%s-%017x", kind, i))
	}
	return ids
}

func TestWhatExistsIsFoundAmongMoreIDsThanAFilterTakes(t *testing.T) {
	server := httptest.NewServer(simulator.New(simulator.Options{Seed: 1}).Handler())
	t.Cleanup(server.Close)
	api := ec2.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})
	vpc, err := api.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16")})
	require.NoError(t, err)
	var subnets []string
	for _, cidr := range []string{"10.0.0.0/24", "10.0.1.0/24"} {
		out, err := api.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String(cidr)})
		require.NoError(t, err)
		subnets = append(subnets, *out.Subnet.SubnetId)
	}
	group, err := api.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{VpcId: vpc.Vpc.VpcId, GroupName: aws.String("pods"), Description: aws.String("pods")})
	require.NoError(t, err)
	_, err = api.CreateSubnetCidrReservation(t.Context(), &ec2.CreateSubnetCidrReservationInput{
		SubnetId: &subnets[0], Cidr: aws.String("10.0.0.128/25"), ReservationType: ec2types.SubnetCidrReservationTypePrefix,
	})
	require.NoError(t, err)
	for range 3 {
		_, err := api.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: &subnets[0]})
		require.NoError(t, err)
	}

	ids := slices.Concat(subnets[:1], missing("subnet"), subnets[1:])
	found, err := ec2read.Subnets(t.Context(), api, "subnet-id", ids...)
	require.NoError(t, err)
	require.ElementsMatch(t, subnets, []string{*found[0].SubnetId, *found[1].SubnetId})
	found, err = ec2read.Subnets(t.Context(), api, "subnet-id")
	require.NoError(t, err)
	require.Empty(t, found, "no value is no subnet, and not all of them")

	vpcs, err := ec2read.GroupVPCs(t.Context(), api, append(missing("sg"), *group.GroupId))
	require.NoError(t, err)
	require.Equal(t, map[string]string{*group.GroupId: *vpc.Vpc.VpcId}, vpcs)

	reservations, err := ec2read.Reservations(t.Context(), api, subnets[0])
	require.NoError(t, err)
	require.Len(t, reservations, 1)
	require.Equal(t, "10.0.0.128/25", *reservations[0].Cidr)

	seen := 0
	for n, err := range ec2read.NetworkInterfaces(t.Context(), api, ec2read.Filter("subnet-id", subnets...)) {
		require.NoError(t, err)
		require.Equal(t, subnets[0], *n.SubnetId)
		if seen++; seen == 2 {
			break
		}
	}
	require.Equal(t, 2, seen)

	server.Close()
	for n, err := range ec2read.NetworkInterfaces(t.Context(), api) {
		require.Error(t, err, "a failure ends the loop and is told")
		require.Nil(t, n)
		seen++
	}
	require.Equal(t, 3, seen)
}

func TestATagThatIsNotThereHasNoValue(t *testing.T) {
	tags := []ec2types.Tag{{Key: aws.String("a"), Value: aws.String("1")}, {Key: aws.String("b")}}
	require.Equal(t, []string{"1", "", ""}, []string{ec2read.Tag(tags, "a"), ec2read.Tag(tags, "b"), ec2read.Tag(tags, "c")})
}
