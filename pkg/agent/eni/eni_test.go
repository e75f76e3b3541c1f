// SPDX-License-Identifier: Apache-2.0

package eni_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// world is a simulated account with a running m5.large in a node subnet, and a pod subnet of a given size.
type world struct {
	cloud     *simulator.Cloud
	api       *ec2.Client
	client    *eni.Client
	podSubnet string
}

func newWorld(t *testing.T, podCIDR string) *world {
	t.Helper()
	ctx := t.Context()
	cloud := simulator.New(simulator.Options{Seed: 1})
	server := httptest.NewServer(cloud.Handler())
	t.Cleanup(server.Close)
	api := ec2.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	vpc, err := api.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16")})
	require.NoError(t, err)
	subnet := func(cidr, zone string) string {
		out, err := api.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String(cidr), AvailabilityZone: aws.String("us-east-1" + zone)})
		require.NoError(t, err)
		return aws.ToString(out.Subnet.SubnetId)
	}
	nodes := subnet("10.0.0.0/24", "a")
	w := &world{cloud: cloud, api: api, podSubnet: subnet(podCIDR, "a")}
	images, err := api.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"amazon"}, Filters: []ec2types.Filter{
		{Name: aws.String("architecture"), Values: []string{"x86_64"}}, {Name: aws.String("name"), Values: []string{"amazon-eks-node-al2023-x86_64-standard-1.35-*"}},
	}})
	require.NoError(t, err)
	require.NotEmpty(t, images.Images)
	launched, err := api.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: images.Images[0].ImageId, InstanceType: "m5.large", MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: aws.String(nodes),
	})
	require.NoError(t, err)
	id := aws.ToString(launched.Instances[0].InstanceId)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		out, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		if assert.NoError(c, err) {
			assert.Equal(c, ec2types.InstanceStateNameRunning, out.Reservations[0].Instances[0].State.Name)
		}
	}, time.Minute, 10*time.Millisecond)
	w.client = &eni.Client{EC2: api, InstanceID: id, Cluster: "test"}
	return w
}

func (w *world) create(ctx context.Context, unit pool.Unit, count int, used ...int) (eni.ENI, error) {
	return w.client.Create(ctx, eni.CreateParams{Subnet: w.podSubnet, Unit: unit, Count: count, UsedIndexes: append(used, 0), MaxENIs: 3})
}

func TestCreateAttachesAnENIWithItsPrefixesThatListFindsAgain(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	created, err := w.create(t.Context(), pool.Prefix, 2)
	require.NoError(t, err)
	require.Equal(t, 1, created.DeviceIndex)
	require.Len(t, created.Prefixes, 2)
	more, err := w.client.Assign(t.Context(), created.ID, pool.Prefix, 3)
	require.NoError(t, err)
	require.Len(t, more, 3)

	require.EventuallyWithT(t, func(c *assert.CollectT) {
		enis, err := w.client.List(t.Context())
		if !assert.NoError(c, err) || !assert.Len(c, enis, 2) {
			return
		}
		assert.False(c, enis[0].Ours, "the primary ENI is not for pods")
		assert.True(c, enis[1].Ours)
		assert.True(c, enis[1].DeleteOnTermination)
		assert.ElementsMatch(c, append(created.Prefixes, more...), enis[1].Prefixes)
	}, time.Minute, 10*time.Millisecond)

	cidr, err := w.client.SubnetCIDR(t.Context(), w.podSubnet)
	require.NoError(t, err)
	require.Equal(t, netip.MustParsePrefix("10.0.32.0/19"), cidr)
}

func TestCreateTakesTheNextDeviceIndexWhenSomebodyElseWasFaster(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	_, err := w.create(t.Context(), pool.Prefix, 1)
	require.NoError(t, err)
	second, err := w.create(t.Context(), pool.Prefix, 1) // does not know of the first
	require.NoError(t, err)
	require.Equal(t, 2, second.DeviceIndex)
}

func TestAnENIThatCannotBeAttachedIsDeletedAgain(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	for range 2 {
		_, err := w.create(t.Context(), pool.Prefix, 1)
		require.NoError(t, err)
	}
	_, err := w.client.Create(t.Context(), eni.CreateParams{Subnet: w.podSubnet, Unit: pool.Prefix, Count: 1, UsedIndexes: []int{0, 1, 2}, MaxENIs: 15})
	require.Equal(t, eni.AttachmentLimit, eni.Classify(err), "%v", err)
	out, err := w.api.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{})
	require.NoError(t, err)
	require.Len(t, out.NetworkInterfaces, 3, "the primary and two")
}

func TestRefusalsOfEC2HaveAReason(t *testing.T) {
	t.Run("a fragmented subnet has no /28, and gives single addresses", func(t *testing.T) {
		w := newWorld(t, "10.0.1.0/26") // four /28s; the first and the last hold what AWS keeps
		for _, address := range []string{"10.0.1.20", "10.0.1.36"} {
			_, err := w.api.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(w.podSubnet), PrivateIpAddress: aws.String(address)})
			require.NoError(t, err)
		}
		_, err := w.create(t.Context(), pool.Prefix, 1)
		require.Equal(t, eni.NoFreePrefix, eni.Classify(err), "%v", err)
		created, err := w.create(t.Context(), pool.SingleAddress, 4)
		require.NoError(t, err)
		require.Len(t, created.Prefixes, 4)
		require.Equal(t, 32, created.Prefixes[0].Bits())
	})
	t.Run("a full subnet", func(t *testing.T) {
		w := newWorld(t, "10.0.1.0/28")
		_, err := w.create(t.Context(), pool.Prefix, 3)
		require.Equal(t, eni.SubnetFull, eni.Classify(err), "%v", err)
	})
	t.Run("no such subnet", func(t *testing.T) {
		w := newWorld(t, "10.0.1.0/24")
		w.podSubnet = "subnet-00000000000000000"
		_, err := w.create(t.Context(), pool.Prefix, 1)
		require.Equal(t, eni.SubnetMissing, eni.Classify(err), "%v", err)
	})
	t.Run("an ENI that is full", func(t *testing.T) {
		w := newWorld(t, "10.0.32.0/19")
		created, err := w.create(t.Context(), pool.Prefix, 9)
		require.NoError(t, err)
		_, err = w.client.Assign(t.Context(), created.ID, pool.Prefix, 1)
		require.Equal(t, eni.AddressLimit, eni.Classify(err), "%v", err)
	})
	t.Run("a missing right", func(t *testing.T) {
		w := newWorld(t, "10.0.32.0/19")
		_, err := w.cloud.AddFault(simulator.Fault{Times: 1, Error: &simulator.ErrorFault{Action: "CreateNetworkInterface", Code: "UnauthorizedOperation"}})
		require.NoError(t, err)
		_, err = w.create(t.Context(), pool.Prefix, 1)
		require.Equal(t, eni.Unauthorized, eni.Classify(err), "%v", err)
	})
}

func TestClassifyKnowsNothingOfOtherErrors(t *testing.T) {
	require.Equal(t, eni.Failed, eni.Classify(context.Canceled))
	require.Equal(t, eni.Failed, eni.Classify(fmt.Errorf("wrapped: %w", &smithy.GenericAPIError{Code: "SomethingNew"})))
	require.Equal(t, eni.Throttled, eni.Classify(fmt.Errorf("wrapped: %w", &smithy.GenericAPIError{Code: "RequestLimitExceeded"})))
}

func TestWhatEC2SaidStandsInEventsWithoutTheRequest(t *testing.T) {
	w := newWorld(t, "10.0.1.0/28")
	_, err := w.create(t.Context(), pool.Prefix, 1)
	_, again := w.create(t.Context(), pool.Prefix, 1)
	require.NotEqual(t, err.Error(), again.Error())
	require.Equal(t, eni.Brief(err), eni.Brief(again))
	require.Equal(t, "no answer", eni.Brief(errors.New("no answer")))
}
