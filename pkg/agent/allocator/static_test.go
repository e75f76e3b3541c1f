// SPDX-License-Identifier: Apache-2.0

package allocator_test

import (
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/allocator"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/imds"
)

var silent = slog.New(slog.DiscardHandler)

// launch an instance with these interfaces beside the primary one, and return what reads its metadata.
func (c *cluster) launch(prefixes ...int32) (imds.Reader, string) {
	c.t.Helper()
	ctx := c.t.Context()
	primary, err := c.api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	require.NoError(c.t, err)
	like := primary.Reservations[0].Instances[0]
	input := &ec2.RunInstancesInput{ImageId: like.ImageId, InstanceType: "m5.large", MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}
	input.NetworkInterfaces = append(input.NetworkInterfaces, ec2types.InstanceNetworkInterfaceSpecification{DeviceIndex: aws.Int32(0), SubnetId: like.SubnetId})
	for i, count := range prefixes {
		input.NetworkInterfaces = append(input.NetworkInterfaces, ec2types.InstanceNetworkInterfaceSpecification{
			DeviceIndex: aws.Int32(int32(i + 1)), SubnetId: aws.String(c.subnet), Ipv4PrefixCount: aws.Int32(count), DeleteOnTermination: aws.Bool(true),
		})
	}
	launched, err := c.api.RunInstances(ctx, input)
	require.NoError(c.t, err)
	id := aws.ToString(launched.Instances[0].InstanceId)
	require.EventuallyWithT(c.t, func(check *assert.CollectT) {
		out, err := c.api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		if assert.NoError(check, err) {
			assert.Equal(check, ec2types.InstanceStateNameRunning, out.Reservations[0].Instances[0].State.Name)
		}
	}, time.Minute, 10*time.Millisecond)
	server := httptest.NewServer(c.cloud.IMDS(func(netip.Addr) (string, bool) { return id, true }))
	c.t.Cleanup(server.Close)
	c.t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
	return imds.New(aws.Config{}), id
}

func TestStaticAddressesComeFromTheMetadataServiceAlone(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	metadata, id := c.launch(3)
	dir := t.TempDir()
	static, err := allocator.Launched(t.Context(), metadata, dir, false, silent)
	require.NoError(t, err)
	require.NoError(t, static.Refresh(t.Context()))

	truth, err := (&eni.Client{EC2: c.api, InstanceID: id}).List(t.Context())
	require.NoError(t, err)
	require.Len(t, static.Pool(), 1)
	got, want := static.Pool()[0], truth[1]
	require.ElementsMatch(t, want.Prefixes, got.Prefixes)
	require.Len(t, got.Prefixes, 3)
	require.Equal(t, netip.MustParsePrefix("10.0.32.0/19"), got.SubnetCIDR)
	require.Equal(t, []any{want.ID, want.MAC, want.Subnet, want.DeviceIndex, want.Primary, true, true},
		[]any{got.ID, got.MAC, got.Subnet, got.DeviceIndex, got.Primary, got.DeleteOnTermination, got.Ours})

	result, err := static.Step(t.Context(), allocator.Demand{Waiting: 48})
	require.NoError(t, err)
	total, _, _ := result.Input.Usage()
	require.Equal(t, 48, total)
	_, err = static.Step(t.Context(), allocator.Demand{Waiting: 47, Leased: []netip.Addr{got.Prefixes[0].Addr()}, Cooling: []netip.Addr{got.Prefixes[0].Addr().Next()}})
	require.Equal(t, eni.Exhausted, eni.Classify(err))
	require.ErrorContains(t, err, "47 pods wait for an address: of the 48 that came with the launch (allocation Static) 46 are free and 1 cool down")
}

func TestAnENIThatIsAttachedLaterIsNotThePodsOnANodeOfStaticAllocation(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	metadata, id := c.launch(1)
	dir := t.TempDir()
	static, err := allocator.Launched(t.Context(), metadata, dir, false, silent)
	require.NoError(t, err)
	require.NoError(t, static.Refresh(t.Context()))
	_, err = (&eni.Client{EC2: c.api, InstanceID: id, Cluster: "test"}).Create(t.Context(), eni.CreateParams{Subnet: c.subnet, Unit: 16, Count: 1, UsedIndexes: []int{0, 1}, MaxENIs: 3})
	require.NoError(t, err)
	require.EventuallyWithT(t, func(check *assert.CollectT) {
		interfaces, err := metadata.Interfaces(t.Context())
		if assert.NoError(check, err) {
			assert.Len(check, interfaces, 3)
		}
	}, time.Minute, 10*time.Millisecond)
	again, err := allocator.Launched(t.Context(), metadata, dir, false, silent) // the next agent
	require.NoError(t, err)
	require.NoError(t, again.Refresh(t.Context()))
	require.Equal(t, static.Pool(), again.Pool())
}

func TestALaunchThatBroughtNoPodENILeavesItsNodeToDynamicAllocation(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	metadata, _ := c.launch()
	dir := t.TempDir()
	_, err := allocator.Launched(t.Context(), metadata, dir, true, silent)
	require.ErrorContains(t, err, "tells of none yet", "where the launch is certain to have brought one, nothing is remembered")
	static, err := allocator.Launched(t.Context(), metadata, dir, false, silent)
	require.NoError(t, err)
	require.Nil(t, static)
}
