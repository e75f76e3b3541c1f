// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

// runIn launches n instances of m5.large and returns their ids.
func (w *world) runIn(n int32, change func(*ec2.RunInstancesInput)) ([]string, error) {
	in := &ec2.RunInstancesInput{ImageId: &w.image, InstanceType: "m5.large", MinCount: &n, MaxCount: &n, SubnetId: ptr(testNodes)}
	if change != nil {
		change(in)
	}
	out, err := w.ec2.RunInstances(w.ctx(), in)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, i := range out.Instances {
		ids = append(ids, *i.InstanceId)
	}
	return ids, nil
}

func (w *world) reserve(n int32, criteria ec2types.InstanceMatchCriteria) string {
	w.Helper()
	out, err := w.ec2.CreateCapacityReservation(w.ctx(), &ec2.CreateCapacityReservationInput{
		InstanceType: ptr("m5.large"), InstancePlatform: ec2types.CapacityReservationInstancePlatformLinuxUnix, AvailabilityZone: ptr("us-east-1a"),
		InstanceCount: &n, InstanceMatchCriteria: criteria,
	})
	require.NoError(w, err)
	return *out.CapacityReservation.CapacityReservationId
}

func (w *world) available(reservation string) int {
	w.Helper()
	out, err := w.ec2.DescribeCapacityReservations(w.ctx(), &ec2.DescribeCapacityReservationsInput{CapacityReservationIds: []string{reservation}})
	require.NoError(w, err)
	return int(*out.CapacityReservations[0].AvailableInstanceCount)
}

func inReservation(id string) func(*ec2.RunInstancesInput) {
	return func(in *ec2.RunInstancesInput) {
		in.CapacityReservationSpecification = &ec2types.CapacityReservationSpecification{
			CapacityReservationTarget: &ec2types.CapacityReservationTarget{CapacityReservationId: &id},
		}
	}
}

func preferring(p ec2types.CapacityReservationPreference) func(*ec2.RunInstancesInput) {
	return func(in *ec2.RunInstancesInput) {
		in.CapacityReservationSpecification = &ec2types.CapacityReservationSpecification{CapacityReservationPreference: p}
	}
}

func TestATargetedReservationHoldsItsCountAndNoMore(t *testing.T) {
	w := newWorld(t)
	w.fault(Fault{Capacity: &CapacityFault{Type: "m5.large", Zone: "us-east-1a", Lifecycle: "on-demand", Left: 2}})
	reservation := w.reserve(2, ec2types.InstanceMatchCriteriaTargeted)
	_, err := w.runIn(1, nil)
	requireError(t, err, "InsufficientInstanceCapacity", "us-east-1a") // the reservation took what the pool had
	ids, err := w.runIn(2, inReservation(reservation))
	require.NoError(t, err)
	require.Zero(t, w.available(reservation))
	_, err = w.runIn(1, inReservation(reservation))
	requireError(t, err, "ReservationCapacityExceeded", "The requested reservation does not have sufficient compatible and available capacity")
	described, err := w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: ids})
	require.NoError(t, err)
	require.Equal(t, reservation, *described.Reservations[0].Instances[0].CapacityReservationId)

	w.template(w.karpenterTemplate("reserved", primaryOnly()))
	data := w.karpenterTemplate("reserved", primaryOnly()).LaunchTemplateData
	data.CapacityReservationSpecification = &ec2types.LaunchTemplateCapacityReservationSpecificationRequest{
		CapacityReservationPreference: ec2types.CapacityReservationPreferenceCapacityReservationsOnly,
		CapacityReservationTarget:     &ec2types.CapacityReservationTarget{CapacityReservationId: &reservation},
	}
	w.addVersion("reserved", nil, data)
	out, err := w.ec2.CreateFleet(t.Context(), fleet("reserved", 1, w.on("m5.large", testNodes, "a")))
	require.NoError(t, err)
	require.Empty(t, out.Instances)
	require.Equal(t, "ReservationCapacityExceeded", *out.Errors[0].ErrorCode)

	_, err = w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: ids[:1]})
	require.NoError(t, err)
	w.await("terminated", func(s Snapshot) bool { return stateOf(s, ids[0]) == "terminated" })
	require.Equal(t, 1, w.available(reservation))
	out, err = w.ec2.CreateFleet(t.Context(), fleet("reserved", 1, w.on("m5.large", testNodes, "a")))
	require.NoError(t, err)
	require.Len(t, out.Instances, 1)
	_, err = w.runIn(1, func(in *ec2.RunInstancesInput) {
		inReservation(reservation)(in)
		in.InstanceType = "m5.xlarge"
	})
	requireError(t, err, "InvalidParameterCombination", "is for m5.large in us-east-1a")
}

func TestAnOpenReservationIsUsedByWhoeverMatchesIt(t *testing.T) {
	w := newWorld(t)
	reservation := w.reserve(2, ec2types.InstanceMatchCriteriaOpen)
	_, err := w.runIn(1, preferring(ec2types.CapacityReservationPreferenceNone))
	require.NoError(t, err)
	require.Equal(t, 2, w.available(reservation))
	_, err = w.runIn(1, func(in *ec2.RunInstancesInput) {
		in.InstanceMarketOptions = &ec2types.InstanceMarketOptionsRequest{MarketType: ec2types.MarketTypeSpot}
	})
	require.NoError(t, err)
	require.Equal(t, 2, w.available(reservation))
	_, err = w.runIn(3, nil)
	require.NoError(t, err, "the third is an ordinary instance")
	require.Zero(t, w.available(reservation))
	_, err = w.runIn(1, preferring(ec2types.CapacityReservationPreferenceCapacityReservationsOnly))
	requireError(t, err, "ReservationCapacityExceeded", "")
	_, err = w.ec2.CancelCapacityReservation(t.Context(), &ec2.CancelCapacityReservationInput{CapacityReservationId: &reservation})
	require.NoError(t, err)
	out, err := w.ec2.DescribeCapacityReservations(t.Context(), &ec2.DescribeCapacityReservationsInput{Filters: []ec2types.Filter{
		{Name: ptr("state"), Values: []string{"active"}},
	}})
	require.NoError(t, err)
	require.Empty(t, out.CapacityReservations)
}

func TestAReservationEndsAtItsDate(t *testing.T) {
	w := newWorld(t)
	in := &ec2.CreateCapacityReservationInput{
		InstanceType: ptr("m5.large"), InstancePlatform: ec2types.CapacityReservationInstancePlatformLinuxUnix, AvailabilityZone: ptr("us-east-1a"),
		InstanceCount: ptr[int32](1), EndDate: ptr(time.Now().Add(time.Second)), EndDateType: ec2types.EndDateTypeLimited,
	}
	out, err := w.ec2.CreateCapacityReservation(t.Context(), in)
	require.NoError(t, err)
	id := *out.CapacityReservation.CapacityReservationId
	require.Eventually(t, func() bool {
		found, err := w.ec2.DescribeCapacityReservations(t.Context(), &ec2.DescribeCapacityReservationsInput{CapacityReservationIds: []string{id}})
		return err == nil && found.CapacityReservations[0].State == ec2types.CapacityReservationStateExpired
	}, time.Minute, 20*time.Millisecond)
	in.EndDateType, in.ClientToken = ec2types.EndDateTypeUnlimited, nil
	_, err = w.ec2.CreateCapacityReservation(t.Context(), in)
	requireError(t, err, "InvalidParameterCombination", "end date")
	in.EndDate, in.InstanceType, in.ClientToken = nil, ptr(notIn("a")), nil
	_, err = w.ec2.CreateCapacityReservation(t.Context(), in)
	requireError(t, err, "Unsupported", "us-east-1a")
}

func (w *world) group(name string, strategy ec2types.PlacementStrategy, partitions *int32) {
	w.Helper()
	_, err := w.ec2.CreatePlacementGroup(w.ctx(), &ec2.CreatePlacementGroupInput{GroupName: &name, Strategy: strategy, PartitionCount: partitions})
	require.NoError(w, err)
}

func inGroup(name, subnet string) func(*ec2.RunInstancesInput) {
	return func(in *ec2.RunInstancesInput) {
		in.Placement, in.SubnetId = &ec2types.Placement{GroupName: &name}, &subnet
	}
}

func TestPlacementGroupsKeepTheirRules(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.group("tight", ec2types.PlacementStrategyCluster, nil)
	w.group("apart", ec2types.PlacementStrategySpread, nil)
	w.group("parts", ec2types.PlacementStrategyPartition, ptr[int32](3))
	_, err := w.ec2.CreatePlacementGroup(ctx, &ec2.CreatePlacementGroupInput{GroupName: ptr("tight"), Strategy: ec2types.PlacementStrategySpread})
	requireError(t, err, "InvalidPlacementGroup.Duplicate", "tight")
	_, err = w.ec2.CreatePlacementGroup(ctx, &ec2.CreatePlacementGroupInput{GroupName: ptr("more"), Strategy: ec2types.PlacementStrategyPartition, PartitionCount: ptr[int32](8)})
	requireError(t, err, "InvalidParameterValue", "partitionCount")

	_, err = w.runIn(2, inGroup("tight", testNodes))
	require.NoError(t, err)
	_, err = w.runIn(1, inGroup("tight", testNodesB))
	requireError(t, err, "InvalidParameterCombination", "us-east-1a")
	_, err = w.runIn(1, func(in *ec2.RunInstancesInput) {
		inGroup("tight", testNodes)(in)
		in.InstanceType = "t3.medium"
	})
	requireError(t, err, "InvalidParameterCombination", "Cluster placement groups are not supported by the 't3.medium' instance type.")
	_, err = w.runIn(7, inGroup("apart", testNodes))
	require.NoError(t, err)
	_, err = w.runIn(1, inGroup("apart", testNodes))
	requireError(t, err, "InstanceLimitExceeded", "apart")
	_, err = w.runIn(1, inGroup("apart", testNodesB))
	require.NoError(t, err, "seven in each zone")
	ids, err := w.runIn(3, inGroup("parts", testNodes))
	require.NoError(t, err)
	out, err := w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: ids})
	require.NoError(t, err)
	var partitions []int32
	for _, i := range out.Reservations[0].Instances {
		require.Equal(t, "parts", *i.Placement.GroupName)
		partitions = append(partitions, *i.Placement.PartitionNumber)
	}
	require.Equal(t, []int32{1, 2, 3}, partitions)
	_, err = w.runIn(1, func(in *ec2.RunInstancesInput) {
		inGroup("parts", testNodes)(in)
		in.Placement.PartitionNumber = ptr[int32](4)
	})
	requireError(t, err, "InvalidParameterValue", "partitionNumber")
	_, err = w.runIn(1, inGroup("none", testNodes))
	requireError(t, err, "InvalidPlacementGroup.Unknown", "The Placement Group 'none' is unknown.")

	_, err = w.ec2.DeletePlacementGroup(ctx, &ec2.DeletePlacementGroupInput{GroupName: ptr("parts")})
	requireError(t, err, "InvalidPlacementGroup.InUse", "parts")
	_, err = w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids})
	require.NoError(t, err)
	w.await("terminated", func(s Snapshot) bool { return stateOf(s, ids[2]) == "terminated" })
	_, err = w.ec2.DeletePlacementGroup(ctx, &ec2.DeletePlacementGroupInput{GroupName: ptr("parts")})
	require.NoError(t, err)
	groups, err := w.ec2.DescribePlacementGroups(ctx, &ec2.DescribePlacementGroupsInput{Filters: []ec2types.Filter{{Name: ptr("strategy"), Values: []string{"spread"}}}})
	require.NoError(t, err)
	require.Equal(t, "apart", *groups.PlacementGroups[0].GroupName)
}

func TestTheVCPUsOfATerminatedInstanceCountForAWhile(t *testing.T) {
	w := newWorld(t)
	w.cloud.quotas.OnDemandVCPUs = 2
	ids, err := w.runIn(1, nil)
	require.NoError(t, err)
	w.cloud.mu.Lock()
	w.cloud.latency.Propagation = Span{Min: time.Hour, Max: time.Hour}
	w.cloud.mu.Unlock()
	_, err = w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: ids})
	require.NoError(t, err)
	w.await("terminated", func(s Snapshot) bool { return stateOf(s, ids[0]) == "terminated" })
	_, err = w.runIn(1, nil)
	requireError(t, err, "VcpuLimitExceeded", "your current vCPU limit of 2")
}

func TestQuotasOfTheAccountAreKept(t *testing.T) {
	w := newWorld(t)
	w.cloud.quotas = Quotas{Interfaces: 3, LaunchTemplates: 1, OnDemandVCPUs: 4, SpotVCPUs: 2}
	ids, err := w.runIn(2, nil) // of two vCPUs each
	require.NoError(t, err)
	_, err = w.runIn(1, nil)
	requireError(t, err, "VcpuLimitExceeded", "your current vCPU limit of 4")
	_, err = w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: ids[:1]})
	require.NoError(t, err)
	w.await("terminated", func(s Snapshot) bool { return stateOf(s, ids[0]) == "terminated" })
	spot := func(in *ec2.RunInstancesInput) {
		in.InstanceMarketOptions = &ec2types.InstanceMarketOptionsRequest{MarketType: ec2types.MarketTypeSpot}
	}
	_, err = w.runIn(1, spot)
	require.NoError(t, err)
	_, err = w.runIn(1, spot)
	requireError(t, err, "MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
	w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)})
	_, err = w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)})
	requireError(t, err, "NetworkInterfaceLimitExceeded", "")
	w.template(w.karpenterTemplate("first", primaryOnly()))
	_, err = w.ec2.CreateLaunchTemplate(t.Context(), w.karpenterTemplate("second", primaryOnly()))
	requireError(t, err, "LaunchTemplateLimitExceeded", "")
}

func TestAnInstanceIsStoppedAndStarted(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id := w.run("m5.large", testNodes)
	address := w.cloud.Snapshot().Instances[0].PrivateIP
	stopped, err := w.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	require.Equal(t, int32(64), *stopped.StoppingInstances[0].CurrentState.Code)
	s := w.await("stopped", func(s Snapshot) bool { return stateOf(s, id) == "stopped" })
	require.Equal(t, address, s.Interfaces[0].Primary, "a stopped instance keeps its address")
	n := w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)})
	w.attach(*n.NetworkInterfaceId, id, 1)
	_, err = w.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	w.await("running", func(s Snapshot) bool { return stateOf(s, id) == "running" })
	spot, err := w.runIn(1, func(in *ec2.RunInstancesInput) {
		in.InstanceMarketOptions = &ec2types.InstanceMarketOptionsRequest{MarketType: ec2types.MarketTypeSpot}
	})
	require.NoError(t, err)
	w.await("running", func(s Snapshot) bool { return stateOf(s, spot[0]) == "running" })
	_, err = w.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: spot})
	requireError(t, err, "UnsupportedOperation", "one-time Spot Instance request")
	_, err = w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	w.await("terminated", func(s Snapshot) bool { return stateOf(s, id) == "terminated" })
	_, err = w.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{id}})
	requireError(t, err, "IncorrectInstanceState", "not in a state from which it can be started")
}
