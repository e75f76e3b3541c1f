// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
)

// fill takes the addresses of a subnet but for those that stay free, by name, as other tenants of it would.
func (w *world) fill(subnetID, cidr string, stays func(offset int) bool) {
	w.Helper()
	base := netip.MustParsePrefix(cidr)
	total := 1 << (32 - base.Bits())
	var taken []string
	for offset := 4; offset < total-1; offset++ { // AWS keeps four and the last
		if !stays(offset) {
			taken = append(taken, fromUint(toUint(base.Addr())+uint32(offset)).String())
		}
	}
	n := w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: &subnetID, PrivateIpAddress: &taken[0]})
	_, err := w.ec2.AssignPrivateIpAddresses(w.ctx(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: n.NetworkInterfaceId, PrivateIpAddresses: taken[1:]})
	require.NoError(w, err)
}

const (
	noBlock = "The specified subnet does not have enough free cidr blocks to satisfy the request."
	noRoom  = "There aren't sufficient free Ipv4 addresses or prefixes"
)

func TestASubnetWithSixtyScatteredAddressesRefusesAPrefix(t *testing.T) {
	w := newWorld(t)
	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), PrivateIpAddress: ptr("100.64.0.9")}).NetworkInterfaceId
	// Four free addresses in each of fifteen /28s.
	w.fill(testPods, "100.64.0.0/24", func(offset int) bool { return offset == 9 || offset >= 16 && offset%16 >= 2 && offset%16 < 6 })
	require.Equal(t, 60, freeAddresses(t, w, testPods))
	_, err := w.ec2.AssignPrivateIpAddresses(t.Context(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &n, Ipv4PrefixCount: ptr[int32](1)})
	requireError(t, err, "InsufficientCidrBlocks", noBlock)
	_, err = w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), Ipv4PrefixCount: ptr[int32](1)})
	requireError(t, err, "InsufficientCidrBlocks", noBlock)
	require.Equal(t, 60, freeAddresses(t, w, testPods), "a refused request takes nothing")

	out, err := w.ec2.AssignPrivateIpAddresses(t.Context(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &n, SecondaryPrivateIpAddressCount: ptr[int32](52)})
	require.NoError(t, err, "single addresses are there")
	require.Len(t, out.AssignedPrivateIpAddresses, 52)

	// The same subnet, nearly full: eight addresses.
	require.Equal(t, 8, freeAddresses(t, w, testPods))
	_, err = w.ec2.AssignPrivateIpAddresses(t.Context(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &n, Ipv4PrefixCount: ptr[int32](1)})
	requireError(t, err, "InvalidParameterValue", noRoom)
	_, err = w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), Ipv4PrefixCount: ptr[int32](1)})
	requireError(t, err, "InvalidParameterValue", noRoom)
	_, err = w.ec2.AssignPrivateIpAddresses(t.Context(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &n, SecondaryPrivateIpAddressCount: ptr[int32](9)})
	requireError(t, err, "InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")
}

func TestAFragmentedPodSubnetShowsInTheFleet(t *testing.T) {
	w := newWorld(t)
	w.fill(testPods, "100.64.0.0/24", func(offset int) bool { return offset%16 != 7 })
	primary, secondary := primaryOnly(), primaryOnly()
	primary.SubnetId, secondary.SubnetId = ptr(testNodes), ptr(testPods)
	secondary.DeviceIndex, secondary.Ipv4PrefixCount = ptr[int32](1), ptr[int32](1)
	w.template(w.karpenterTemplate("fragmented", primary, secondary))
	out, err := w.ec2.CreateFleet(t.Context(), fleet("fragmented", 1, w.on("m5.large", "", "a")))
	require.NoError(t, err)
	require.Empty(t, out.Instances)
	require.Equal(t, "InsufficientCidrBlocks", *out.Errors[0].ErrorCode)
	require.Equal(t, noBlock, *out.Errors[0].ErrorMessage)
	require.Equal(t, 251, freeAddresses(t, w, testNodes), "the node's address was given back")
}
