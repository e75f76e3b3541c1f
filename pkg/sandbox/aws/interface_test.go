// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"
)

func ptr[T any](v T) *T { return &v }

func isCode(err error, code string) bool {
	var e smithy.APIError
	return errors.As(err, &e) && e.ErrorCode() == code
}

func TestAnInterfaceIsCreatedWithPrefixesAttachedAndShownWhenAttached(t *testing.T) {
	w := newWorld(t)
	id := w.run("m5.large", testNodes)
	n := w.eni(&ec2.CreateNetworkInterfaceInput{
		SubnetId: ptr(testPods), Groups: []string{testGroup}, Ipv4PrefixCount: ptr[int32](2), Description: ptr("pods"),
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: "network-interface", Tags: []ec2types.Tag{{Key: ptr("a"), Value: ptr("b")}}}},
	})
	require.EqualValues(t, "pending", n.Status)
	require.Len(t, n.Ipv4Prefixes, 2)
	for _, p := range n.Ipv4Prefixes {
		block := netip.MustParsePrefix(*p.Ipv4Prefix)
		require.Equal(t, 28, block.Bits())
		require.Equal(t, block.Masked(), block)
	}
	attachment := w.attach(*n.NetworkInterfaceId, id, 1)
	out, err := w.ec2.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{Filters: []ec2types.Filter{
		{Name: ptr("attachment.instance-id"), Values: []string{id}}, {Name: ptr("tag:a"), Values: []string{"b"}},
	}})
	require.NoError(t, err)
	require.Len(t, out.NetworkInterfaces, 1)
	got := out.NetworkInterfaces[0]
	require.Equal(t, ec2types.NetworkInterfaceStatusInUse, got.Status)
	require.Equal(t, attachment, *got.Attachment.AttachmentId)
	require.False(t, *got.Attachment.DeleteOnTermination, "hot-attached interfaces outlive their instance by default")

	s := w.cloud.Snapshot()
	require.Equal(t, 251-1-32, freeAddresses(t, w, testPods))
	require.Equal(t, int32(1), interfaceOf(s, *n.NetworkInterfaceId).Attachment.DeviceIndex)
}

func freeAddresses(t *testing.T, w *world, id string) int {
	out, err := w.ec2.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{SubnetIds: []string{id}})
	require.NoError(t, err)
	return int(*out.Subnets[0].AvailableIpAddressCount)
}

func TestAnAttachmentThatEC2RefusesIsRefused(t *testing.T) {
	w := newWorld(t)
	id := w.run("t3.small", testNodes) // 3 interfaces of 4 addresses
	xen := w.run("m4.large", testNodes)
	here := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId
	elsewhere := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testNodesB)}).NetworkInterfaceId
	heavy := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), Ipv4PrefixCount: ptr[int32](4)}).NetworkInterfaceId
	delegated := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), Ipv4PrefixCount: ptr[int32](1)}).NetworkInterfaceId
	attached := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId
	w.attach(attached, id, 1)
	for _, row := range []struct {
		name, eni, instance string
		index, card         *int32
		code, text          string
	}{
		{"device index taken", here, id, ptr[int32](1), nil, "InvalidParameterValue", "Instance '" + id + "' already has an interface attached at device index '1'."},
		{"no device index", here, id, nil, nil, "", ""},
		{"another zone", elsewhere, id, ptr[int32](2), nil, "InvalidParameterCombination", "You may not attach a network interface to an instance if they are not in the same availability zone"},
		{"too many addresses", heavy, id, ptr[int32](2), nil, "InvalidInterface.IpAddressLimitExceeded", "Address count 5 exceeds the limit for t3.small"},
		{"prefixes without Nitro", delegated, xen, ptr[int32](1), nil, "InvalidParameterCombination", "Nitro"},
		{"attached already", attached, id, ptr[int32](2), nil, "InvalidNetworkInterface.InUse", "in use"},
		{"no such interface", "eni-0123456789abcdef0", id, ptr[int32](2), nil, "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID 'eni-0123456789abcdef0' does not exist"},
		{"no interface id", "eni-xyz", id, ptr[int32](2), nil, "InvalidNetworkInterfaceId.Malformed", ""},
		{"no such instance", here, "i-0123456789abcdef0", ptr[int32](2), nil, "InvalidInstanceID.NotFound", "The instance ID 'i-0123456789abcdef0' does not exist"},
		{"no such card", here, id, ptr[int32](1), ptr[int32](1), "InvalidParameterValue", "Network card index '1'"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := w.ec2.AttachNetworkInterface(t.Context(), &ec2.AttachNetworkInterfaceInput{
				NetworkInterfaceId: &row.eni, InstanceId: &row.instance, DeviceIndex: row.index, NetworkCardIndex: row.card,
			})
			if row.code == "" {
				require.Error(t, err) // the SDK itself refuses
				return
			}
			requireError(t, err, row.code, row.text)
		})
	}
	w.attach(here, id, 2)
	third := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId
	_, err := w.ec2.AttachNetworkInterface(t.Context(), &ec2.AttachNetworkInterfaceInput{
		NetworkInterfaceId: &third, InstanceId: &id, DeviceIndex: ptr[int32](3),
	})
	requireError(t, err, "AttachmentLimitExceeded", "Interface count 4 exceeds the limit for t3.small")
}

func TestAnEFAIsAttachedToAStoppedInstanceThatSupportsIt(t *testing.T) {
	w := newWorld(t)
	attach := func(instanceID string) error {
		efa := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), InterfaceType: "efa"}).NetworkInterfaceId
		_, err := w.ec2.AttachNetworkInterface(t.Context(), &ec2.AttachNetworkInterfaceInput{
			NetworkInterfaceId: &efa, InstanceId: &instanceID, DeviceIndex: ptr[int32](1),
		})
		return err
	}
	stopped := func(instanceType string) string {
		id := w.run(instanceType, testNodes)
		_, err := w.ec2.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}})
		require.NoError(t, err)
		w.await("stopped", func(s Snapshot) bool { return stateOf(s, id) == "stopped" })
		return id
	}
	requireError(t, attach(w.run("m5n.24xlarge", testNodes)), "IncorrectState", "is not 'stopped'")
	requireError(t, attach(stopped("m5.large")), "InvalidParameterCombination", "m5.large instances do not support Elastic Fabric Adapters.")
	require.NoError(t, attach(stopped("m5n.24xlarge")))
}

func TestOnlyARunningInstanceTakesAnInterface(t *testing.T) {
	latency := immediate()
	latency.Boot = Span{Min: 1 << 40, Max: 1 << 40}
	w := newAccountLike(t, latency)
	out, err := w.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: "m5.large", MinCount: ptr[int32](1), MaxCount: ptr[int32](1), SubnetId: ptr(testNodes),
	})
	require.NoError(t, err)
	n := w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testNodes)})
	_, err = w.ec2.AttachNetworkInterface(t.Context(), &ec2.AttachNetworkInterfaceInput{
		NetworkInterfaceId: n.NetworkInterfaceId, InstanceId: out.Instances[0].InstanceId, DeviceIndex: ptr[int32](1),
	})
	requireError(t, err, "IncorrectState", "is not 'running'")
}

// newAccountLike is a small world of other latencies.
func newAccountLike(t *testing.T, latency Profile) *world {
	w := newAccount(t, latency)
	w.cloud.ReserveIDs([]string{testVPC, testNodes})
	_, err := w.ec2.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: ptr("10.0.0.0/21")})
	require.NoError(t, err)
	w.subnet("10.0.0.0/24", "us-east-1a")
	return w
}

func TestAnInterfaceInUseIsNotDeletedUntilItIsDetached(t *testing.T) {
	latency := immediate()
	latency.Detach = Span{Min: 1 << 40, Max: 1 << 40}
	w := newAccountLike(t, latency)
	id := w.runPlain("m5.large")
	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testNodes)}).NetworkInterfaceId
	attachment := w.attach(n, id, 1)
	_, err := w.ec2.DeleteNetworkInterface(t.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &n})
	requireError(t, err, "InvalidParameterValue", "Network interface '"+n+"' is currently in use.")
	_, err = w.ec2.DetachNetworkInterface(t.Context(), &ec2.DetachNetworkInterfaceInput{AttachmentId: &attachment})
	require.NoError(t, err)
	require.Equal(t, "detaching", interfaceOf(w.cloud.Snapshot(), n).Attachment.Status)
	_, err = w.ec2.DeleteNetworkInterface(t.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &n})
	requireError(t, err, "InvalidParameterValue", "is currently in use")
	_, err = w.ec2.DetachNetworkInterface(t.Context(), &ec2.DetachNetworkInterfaceInput{AttachmentId: &attachment})
	requireError(t, err, "IncorrectState", "detaching")
}

func (w *world) runPlain(instanceType string) string {
	w.Helper()
	out, err := w.ec2.RunInstances(w.ctx(), &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: ec2types.InstanceType(instanceType), MinCount: ptr[int32](1), MaxCount: ptr[int32](1), SubnetId: ptr(testNodes),
	})
	require.NoError(w, err)
	id := *out.Instances[0].InstanceId
	w.await("running", func(s Snapshot) bool { return stateOf(s, id) == "running" })
	return id
}

func TestDetachingGivesTheInterfaceBack(t *testing.T) {
	w := newWorld(t)
	id := w.run("m5.large", testNodes)
	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId
	attachment := w.attach(n, id, 1)
	_, err := w.ec2.DetachNetworkInterface(t.Context(), &ec2.DetachNetworkInterfaceInput{AttachmentId: &attachment})
	require.NoError(t, err)
	w.await("available", func(s Snapshot) bool { return interfaceOf(s, n).Attachment == nil })
	_, err = w.ec2.DetachNetworkInterface(t.Context(), &ec2.DetachNetworkInterfaceInput{AttachmentId: &attachment})
	requireError(t, err, "InvalidAttachmentID.NotFound", attachment)
	free := freeAddresses(t, w, testPods)
	_, err = w.ec2.DeleteNetworkInterface(t.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &n})
	require.NoError(t, err)
	require.Equal(t, free+1, freeAddresses(t, w, testPods))
	_, err = w.ec2.DeleteNetworkInterface(t.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &n})
	requireError(t, err, "InvalidNetworkInterfaceID.NotFound", n)
}

func TestThePrimaryInterfaceAndServicesInterfacesAreNotDetached(t *testing.T) {
	w := newWorld(t)
	id := w.run("m5.large", testNodes)
	primary := w.cloud.Snapshot().Interfaces[0]
	require.Equal(t, id, primary.Attachment.InstanceID)
	_, err := w.ec2.DetachNetworkInterface(t.Context(), &ec2.DetachNetworkInterfaceInput{AttachmentId: &primary.Attachment.ID})
	requireError(t, err, "OperationNotPermitted", "device index 0")

	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testNodes)}).NetworkInterfaceId
	require.NoError(t, w.cloud.AttachToService(n, "amazon-eks"))
	require.Error(t, w.cloud.AttachToService(n, "amazon-eks"))
	owned := interfaceOf(w.cloud.Snapshot(), n)
	require.Empty(t, owned.Attachment.InstanceID)
	_, err = w.ec2.DetachNetworkInterface(t.Context(), &ec2.DetachNetworkInterfaceInput{AttachmentId: &owned.Attachment.ID})
	requireError(t, err, "OperationNotPermitted", "You are not allowed to manage 'ela-attach' attachments.")
	_, err = w.ec2.DeleteNetworkInterface(t.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &n})
	requireError(t, err, "InvalidParameterValue", "in use")
}

func TestAnInterfaceWithoutDeleteOnTerminationLeaks(t *testing.T) {
	w := newWorld(t)
	id := w.run("m5.large", testNodes)
	leaks := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId
	dies := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId
	w.attach(leaks, id, 1)
	attachment := w.attach(dies, id, 2)
	_, err := w.ec2.ModifyNetworkInterfaceAttribute(t.Context(), &ec2.ModifyNetworkInterfaceAttributeInput{
		NetworkInterfaceId: &dies, Attachment: &ec2types.NetworkInterfaceAttachmentChanges{AttachmentId: &attachment, DeleteOnTermination: ptr(true)},
	})
	require.NoError(t, err)
	out, err := w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	require.Equal(t, ec2types.InstanceStateNameShuttingDown, out.TerminatingInstances[0].CurrentState.Name)
	s := w.await("terminated", func(s Snapshot) bool { return stateOf(s, id) == "terminated" })
	require.Len(t, s.Interfaces, 1)
	require.Equal(t, leaks, s.Interfaces[0].ID)
	require.Nil(t, s.Interfaces[0].Attachment)
	require.Equal(t, 251, freeAddresses(t, w, testNodes))
	_, err = w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err, "termination is idempotent")
}

func TestOneAttributeIsModifiedACall(t *testing.T) {
	w := newWorld(t)
	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId
	_, err := w.ec2.ModifyNetworkInterfaceAttribute(t.Context(), &ec2.ModifyNetworkInterfaceAttributeInput{
		NetworkInterfaceId: &n, Groups: []string{testGroup}, SourceDestCheck: &ec2types.AttributeBooleanValue{Value: ptr(false)},
	})
	requireError(t, err, "InvalidParameterCombination", "")
	_, err = w.ec2.ModifyNetworkInterfaceAttribute(t.Context(), &ec2.ModifyNetworkInterfaceAttributeInput{
		NetworkInterfaceId: &n, SourceDestCheck: &ec2types.AttributeBooleanValue{Value: ptr(false)},
	})
	require.NoError(t, err)
	_, err = w.ec2.ModifyNetworkInterfaceAttribute(t.Context(), &ec2.ModifyNetworkInterfaceAttributeInput{NetworkInterfaceId: &n, Groups: []string{testGroup}})
	require.NoError(t, err)
	got := interfaceOf(w.cloud.Snapshot(), n)
	require.False(t, got.SourceDestCheck)
	require.Equal(t, []string{testGroup}, got.Groups)
	_, err = w.ec2.ModifyNetworkInterfaceAttribute(t.Context(), &ec2.ModifyNetworkInterfaceAttributeInput{
		NetworkInterfaceId: &n, Attachment: &ec2types.NetworkInterfaceAttachmentChanges{AttachmentId: ptr("eni-attach-0123456789abcdef0"), DeleteOnTermination: ptr(true)},
	})
	requireError(t, err, "InvalidAttachmentID.NotFound", "")
}

func TestAnInterfaceThatEC2RefusesIsRefused(t *testing.T) {
	w := newWorld(t)
	other, err := w.ec2.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: ptr("10.1.0.0/16")})
	require.NoError(t, err)
	foreign, err := w.ec2.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{
		VpcId: other.Vpc.VpcId, GroupName: ptr("foreign"), Description: ptr("of another VPC"),
	})
	require.NoError(t, err)
	for _, row := range []struct {
		name string
		in   ec2.CreateNetworkInterfaceInput
		code string
		text string
	}{
		{"no such subnet", ec2.CreateNetworkInterfaceInput{SubnetId: ptr("subnet-0123456789abcdef0")}, "InvalidSubnetID.NotFound", "The subnet ID 'subnet-0123456789abcdef0' does not exist"},
		{"malformed subnet", ec2.CreateNetworkInterfaceInput{SubnetId: ptr("subnet-x")}, "InvalidSubnetID.Malformed", ""},
		{"no such group", ec2.CreateNetworkInterfaceInput{Groups: []string{"sg-0123456789abcdef0"}}, "InvalidGroup.NotFound", "sg-0123456789abcdef0"},
		{"group of another VPC", ec2.CreateNetworkInterfaceInput{Groups: []string{*foreign.GroupId}}, "InvalidParameter", "belong to different networks"},
		{"too many groups", ec2.CreateNetworkInterfaceInput{Groups: []string{testGroup, testGroup, testGroup, testGroup, testGroup, testGroup}}, "SecurityGroupsPerInterfaceLimitExceeded", ""},
		{"prefixes and addresses", ec2.CreateNetworkInterfaceInput{Ipv4PrefixCount: ptr[int32](1), SecondaryPrivateIpAddressCount: ptr[int32](1)}, "InvalidParameterCombination", "one and only one"},
		{"address outside", ec2.CreateNetworkInterfaceInput{PrivateIpAddress: ptr("10.9.9.9")}, "InvalidParameterValue", "does not fall within the subnet's address range"},
		{"reserved address", ec2.CreateNetworkInterfaceInput{PrivateIpAddress: ptr("100.64.0.1")}, "InvalidParameterValue", "Address 100.64.0.1 is in subnet's reserved address range"},
		{"prefix not aligned", ec2.CreateNetworkInterfaceInput{Ipv4Prefixes: []ec2types.Ipv4PrefixSpecificationRequest{{Ipv4Prefix: ptr("100.64.0.20/28")}}}, "InvalidParameterValue", "aligned"},
		{"too full for prefixes", ec2.CreateNetworkInterfaceInput{Ipv4PrefixCount: ptr[int32](16)}, "InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes"},
		{"no aligned block left", ec2.CreateNetworkInterfaceInput{Ipv4PrefixCount: ptr[int32](15)}, "InsufficientCidrBlocks", "does not have enough free cidr blocks"},
		{"too full for addresses", ec2.CreateNetworkInterfaceInput{SecondaryPrivateIpAddressCount: ptr[int32](251)}, "InsufficientFreeAddressesInSubnet", "does not have enough free addresses"},
		{"aws tag", ec2.CreateNetworkInterfaceInput{TagSpecifications: []ec2types.TagSpecification{{ResourceType: "network-interface", Tags: []ec2types.Tag{{Key: ptr("aws:x")}}}}}, "InvalidParameterValue", "reserved for internal use"},
		{"trunk interface", ec2.CreateNetworkInterfaceInput{InterfaceType: "trunk"}, "UnsupportedOperation", "trunk"},
		{"IPv6", ec2.CreateNetworkInterfaceInput{Ipv6AddressCount: ptr[int32](1)}, "UnsupportedOperation", "Ipv6AddressCount of CreateNetworkInterface"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.in.SubnetId == nil {
				row.in.SubnetId = ptr(testPods)
			}
			_, err := w.ec2.CreateNetworkInterface(t.Context(), &row.in)
			requireError(t, err, row.code, row.text)
			require.Equal(t, 251, freeAddresses(t, w, testPods), "a refused request takes nothing")
		})
	}
}

func TestAddressesAndPrefixesAreAssignedUpToTheSlotsOfTheType(t *testing.T) {
	w := newWorld(t)
	id := w.run("t3.small", testNodes) // 4 slots for each interface
	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId
	w.attach(n, id, 1)
	out, err := w.ec2.AssignPrivateIpAddresses(t.Context(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &n, Ipv4PrefixCount: ptr[int32](2)})
	require.NoError(t, err)
	require.Len(t, out.AssignedIpv4Prefixes, 2)
	single, err := w.ec2.AssignPrivateIpAddresses(t.Context(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &n, SecondaryPrivateIpAddressCount: ptr[int32](1)})
	require.NoError(t, err)
	require.Len(t, single.AssignedPrivateIpAddresses, 1)
	_, err = w.ec2.AssignPrivateIpAddresses(t.Context(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &n, Ipv4PrefixCount: ptr[int32](1)})
	requireError(t, err, "PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")

	_, err = w.ec2.UnassignPrivateIpAddresses(t.Context(), &ec2.UnassignPrivateIpAddressesInput{
		NetworkInterfaceId: &n, Ipv4Prefixes: []string{*out.AssignedIpv4Prefixes[0].Ipv4Prefix},
	})
	require.NoError(t, err)
	_, err = w.ec2.UnassignPrivateIpAddresses(t.Context(), &ec2.UnassignPrivateIpAddressesInput{
		NetworkInterfaceId: &n, Ipv4Prefixes: []string{*out.AssignedIpv4Prefixes[0].Ipv4Prefix},
	})
	requireError(t, err, "InvalidParameterValue", "Some of the specified addresses are not assigned to interface "+n)
	_, err = w.ec2.UnassignPrivateIpAddresses(t.Context(), &ec2.UnassignPrivateIpAddressesInput{
		NetworkInterfaceId: &n, PrivateIpAddresses: []string{*single.AssignedPrivateIpAddresses[0].PrivateIpAddress},
	})
	require.NoError(t, err)
	got := interfaceOf(w.cloud.Snapshot(), n)
	require.Len(t, got.Prefixes, 1)
	require.Empty(t, got.Secondaries)
	require.Equal(t, 251-1-16, freeAddresses(t, w, testPods))
}

func TestAnAssignmentThatEC2RefusesIsRefused(t *testing.T) {
	w := newWorld(t)
	holder := w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), PrivateIpAddresses: []ec2types.PrivateIpAddressSpecification{
		{PrivateIpAddress: ptr("100.64.0.10"), Primary: ptr(true)}, {PrivateIpAddress: ptr("100.64.0.11")},
	}})
	require.Equal(t, "100.64.0.10", *holder.PrivateIpAddress)
	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), PrivateIpAddress: ptr("100.64.0.12")}).NetworkInterfaceId
	xen := w.run("m4.large", testNodes)
	onXen := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), PrivateIpAddress: ptr("100.64.0.13")}).NetworkInterfaceId
	w.attach(onXen, xen, 1)
	for _, row := range []struct {
		name, code, text string
		in               ec2.AssignPrivateIpAddressesInput
	}{
		{"nothing", "InvalidParameter", "must be specified", ec2.AssignPrivateIpAddressesInput{}},
		{"two ways", "InvalidParameterCombination", "one and only one", ec2.AssignPrivateIpAddressesInput{Ipv4PrefixCount: ptr[int32](1), SecondaryPrivateIpAddressCount: ptr[int32](1)}},
		{"a primary address", "InvalidIPAddress.InUse", "Address 100.64.0.10 is in use.", ec2.AssignPrivateIpAddressesInput{PrivateIpAddresses: []string{"100.64.0.10"}}},
		{"another's secondary", "InvalidParameterValue", "[100.64.0.11] assigned, but move is not allowed.", ec2.AssignPrivateIpAddressesInput{PrivateIpAddresses: []string{"100.64.0.11"}}},
		{"prefixes without Nitro", "InvalidParameterCombination", "Nitro", ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &onXen, Ipv4PrefixCount: ptr[int32](1)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.in.NetworkInterfaceId == nil {
				row.in.NetworkInterfaceId = &n
			}
			_, err := w.ec2.AssignPrivateIpAddresses(t.Context(), &row.in)
			requireError(t, err, row.code, row.text)
		})
	}
	_, err := w.ec2.AssignPrivateIpAddresses(t.Context(), &ec2.AssignPrivateIpAddressesInput{
		NetworkInterfaceId: &n, PrivateIpAddresses: []string{"100.64.0.11"}, AllowReassignment: ptr(true),
	})
	require.NoError(t, err)
	s := w.cloud.Snapshot()
	require.Empty(t, interfaceOf(s, *holder.NetworkInterfaceId).Secondaries)
	require.Equal(t, []netip.Addr{addr("100.64.0.11")}, interfaceOf(s, n).Secondaries)
}

func TestANewInterfaceIsUnknownToDescribeForAWhile(t *testing.T) {
	latency := immediate()
	latency.Propagation = Span{Min: 1 << 40, Max: 1 << 40}
	w := newAccountLike(t, latency)
	n := w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testNodes)})
	_, err := w.ec2.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{*n.NetworkInterfaceId}})
	requireError(t, err, "InvalidNetworkInterfaceID.NotFound", "")
	out, err := w.ec2.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{})
	require.NoError(t, err)
	require.Empty(t, out.NetworkInterfaces)
	run, err := w.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: "m5.large", MinCount: ptr[int32](2), MaxCount: ptr[int32](2), SubnetId: ptr(testNodes),
	})
	require.NoError(t, err)
	ids := []string{*run.Instances[0].InstanceId, *run.Instances[1].InstanceId}
	_, err = w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: ids})
	requireError(t, err, "InvalidInstanceID.NotFound", "The instance IDs '"+ids[0]+", "+ids[1]+"' do not exist")
	_, err = w.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: ids, Tags: []ec2types.Tag{{Key: ptr("a"), Value: ptr("b")}}})
	requireError(t, err, "InvalidInstanceID.NotFound", "")
	_, err = w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: ids})
	requireError(t, err, "InvalidInstanceID.NotFound", "")
}
