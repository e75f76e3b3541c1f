// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

func encoded(text string) *string { return ptr(base64.StdEncoding.EncodeToString([]byte(text))) }

// karpenterTemplate is the input that karpenter-provider-aws v1.14.1 builds (pkg/providers/launchtemplate/types.go).
func (w *world) karpenterTemplate(name string, interfaces ...ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest) *ec2.CreateLaunchTemplateInput {
	tags := []ec2types.Tag{{Key: ptr("eks:eks-cluster-name"), Value: ptr("dovetail-sandbox")}, {Key: ptr("karpenter.sh/nodepool"), Value: ptr("default")}}
	return &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: &name,
		LaunchTemplateData: &ec2types.RequestLaunchTemplateData{
			BlockDeviceMappings: []ec2types.LaunchTemplateBlockDeviceMappingRequest{{
				DeviceName: ptr("/dev/xvda"),
				Ebs: &ec2types.LaunchTemplateEbsBlockDeviceRequest{
					Encrypted: ptr(true), VolumeType: ec2types.VolumeTypeGp3, VolumeSize: ptr[int32](20), DeleteOnTermination: ptr(true),
				},
			}},
			CpuOptions:         &ec2types.LaunchTemplateCpuOptionsRequest{CoreCount: ptr[int32](1)},
			IamInstanceProfile: &ec2types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: ptr(testProfile)},
			Monitoring:         &ec2types.LaunchTemplatesMonitoringRequest{Enabled: ptr(false)},
			UserData:           encoded("node data"),
			ImageId:            &w.image,
			MetadataOptions: &ec2types.LaunchTemplateInstanceMetadataOptionsRequest{
				HttpEndpoint: "enabled", HttpProtocolIpv6: "disabled", HttpPutResponseHopLimit: ptr[int32](1), HttpTokens: "required",
				InstanceMetadataTags: ec2types.LaunchTemplateInstanceMetadataTagsStateDisabled,
			},
			NetworkInterfaces: interfaces,
			TagSpecifications: []ec2types.LaunchTemplateTagSpecificationRequest{
				{ResourceType: ec2types.ResourceTypeNetworkInterface, Tags: tags}, {ResourceType: ec2types.ResourceTypeSpotInstancesRequest, Tags: tags},
			},
			Placement:      &ec2types.LaunchTemplatePlacementRequest{Tenancy: ec2types.TenancyDefault},
			EnclaveOptions: &ec2types.LaunchTemplateEnclaveOptionsRequest{Enabled: ptr(false)},
			CapacityReservationSpecification: &ec2types.LaunchTemplateCapacityReservationSpecificationRequest{
				CapacityReservationPreference: ec2types.CapacityReservationPreferenceNone,
			},
		},
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeLaunchTemplate, Tags: tags}},
	}
}

// fleet is the input that karpenter-provider-aws v1.14.1 builds (pkg/providers/instance/types.go).
func fleet(template string, n int32, overrides ...ec2types.FleetLaunchTemplateOverridesRequest) *ec2.CreateFleetInput {
	tags := []ec2types.Tag{{Key: ptr("karpenter.sh/nodeclaim"), Value: ptr("default-x")}}
	return &ec2.CreateFleetInput{
		Type: ec2types.FleetTypeInstant,
		LaunchTemplateConfigs: []ec2types.FleetLaunchTemplateConfigRequest{{
			LaunchTemplateSpecification: &ec2types.FleetLaunchTemplateSpecificationRequest{LaunchTemplateName: &template, Version: ptr("$Latest")},
			Overrides:                   overrides,
		}},
		TargetCapacitySpecification: &ec2types.TargetCapacitySpecificationRequest{
			DefaultTargetCapacityType: ec2types.DefaultTargetCapacityTypeOnDemand, TotalTargetCapacity: &n,
		},
		OnDemandOptions: &ec2types.OnDemandOptionsRequest{AllocationStrategy: ec2types.FleetOnDemandAllocationStrategyLowestPrice},
		TagSpecifications: []ec2types.TagSpecification{
			{ResourceType: ec2types.ResourceTypeInstance, Tags: tags}, {ResourceType: ec2types.ResourceTypeVolume, Tags: tags},
			{ResourceType: ec2types.ResourceTypeFleet, Tags: tags},
		},
	}
}

func (w *world) on(instanceType, subnetID, zone string) ec2types.FleetLaunchTemplateOverridesRequest {
	o := ec2types.FleetLaunchTemplateOverridesRequest{
		InstanceType: ec2types.InstanceType(instanceType), AvailabilityZone: ptr("us-east-1" + zone), ImageId: &w.image, Priority: ptr(0.1),
	}
	if subnetID != "" {
		o.SubnetId = &subnetID
	}
	return o
}

func primaryOnly() ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest {
	return ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{DeviceIndex: ptr[int32](0), Groups: []string{testGroup}}
}

func (w *world) template(in *ec2.CreateLaunchTemplateInput) {
	w.Helper()
	_, err := w.ec2.CreateLaunchTemplate(w.ctx(), in)
	require.NoError(w, err)
}

func TestAFleetLaunchesTheCheapestPoolAndSaysWhere(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("karpenter.k8s.aws/1", primaryOnly()))
	out, err := w.ec2.CreateFleet(t.Context(), fleet("karpenter.k8s.aws/1", 3,
		w.on("m5.2xlarge", testNodes, "a"), w.on("m5.large", testNodesB, "b"), w.on("c5.9xlarge", testNodesB, "b")))
	require.NoError(t, err)
	require.Empty(t, out.Errors)
	require.Len(t, out.Instances, 1)
	require.Len(t, out.Instances[0].InstanceIds, 3)
	require.EqualValues(t, "m5.large", out.Instances[0].InstanceType)
	require.Equal(t, testNodesB, *out.Instances[0].LaunchTemplateAndOverrides.Overrides.SubnetId)
	require.Equal(t, "us-east-1b", *out.Instances[0].LaunchTemplateAndOverrides.Overrides.AvailabilityZone)

	described, err := w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{MaxResults: ptr[int32](1000), Filters: []ec2types.Filter{
		{Name: ptr("tag:karpenter.sh/nodeclaim"), Values: []string{"default-x"}}, {Name: ptr("tag-key"), Values: []string{"aws:ec2:fleet-id"}},
		{Name: ptr("instance-state-name"), Values: []string{"pending", "running"}},
	}})
	require.NoError(t, err)
	require.Len(t, described.Reservations, 1)
	got := described.Reservations[0].Instances[0]
	require.Equal(t, testNodesB, *got.SubnetId)
	require.Equal(t, "us-east-1b", *got.Placement.AvailabilityZone)
	require.Contains(t, *got.IamInstanceProfile.Arn, ":instance-profile/"+testProfile)
	require.True(t, *got.NetworkInterfaces[0].Attachment.DeleteOnTermination)

	s := w.cloud.Snapshot()
	require.Equal(t, "node data", string(s.Instances[0].UserData))
	require.Equal(t, []int{1, 2, 3}, []int{s.Instances[0].LaunchOrder, s.Instances[1].LaunchOrder, s.Instances[2].LaunchOrder})
	require.Equal(t, "default", s.Interfaces[0].Tags["karpenter.sh/nodepool"], "the template tags interfaces")
	require.Equal(t, []string{testGroup}, s.Interfaces[0].Groups)
	require.Contains(t, s.Instances[0].ImageName, "al2023")
}

func TestPrioritiesOrderPoolsWhereTheStrategySaysSo(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("prioritized", primaryOnly()))
	dear, cheap := w.on("m5.2xlarge", testNodes, "a"), w.on("m5.large", testNodesB, "b")
	dear.Priority, cheap.Priority = ptr(1.0), ptr(2.0)
	in := fleet("prioritized", 1, cheap, dear)
	in.OnDemandOptions.AllocationStrategy = ec2types.FleetOnDemandAllocationStrategyPrioritized
	out, err := w.ec2.CreateFleet(t.Context(), in)
	require.NoError(t, err)
	require.EqualValues(t, "m5.2xlarge", out.Instances[0].InstanceType)
}

func TestASpotFleetMarksItsInstances(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("spot", primaryOnly()))
	in := fleet("spot", 1, w.on("m5.large", testNodes, "a"))
	in.TargetCapacitySpecification.DefaultTargetCapacityType = ec2types.DefaultTargetCapacityTypeSpot
	in.OnDemandOptions = nil
	in.SpotOptions = &ec2types.SpotOptionsRequest{AllocationStrategy: ec2types.SpotAllocationStrategyPriceCapacityOptimized}
	out, err := w.ec2.CreateFleet(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, ec2types.InstanceLifecycleSpot, out.Instances[0].Lifecycle)
	described, err := w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: out.Instances[0].InstanceIds})
	require.NoError(t, err)
	require.NotNil(t, described.Reservations[0].Instances[0].SpotInstanceRequestId)
}

func TestASecondaryInterfaceInAPodSubnetComesWithTheLaunch(t *testing.T) {
	w := newWorld(t)
	primary := primaryOnly()
	primary.SubnetId = ptr(testNodes)
	w.template(w.karpenterTemplate("static", primary, ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{
		DeviceIndex: ptr[int32](1), NetworkCardIndex: ptr[int32](0), SubnetId: ptr(testPods), Groups: []string{testGroup},
		Ipv4PrefixCount: ptr[int32](7), DeleteOnTermination: ptr(true),
	}))
	out, err := w.ec2.CreateFleet(t.Context(), fleet("static", 1, w.on("m5.large", "", "a")))
	require.NoError(t, err)
	require.Empty(t, out.Errors)
	require.Nil(t, out.Instances[0].LaunchTemplateAndOverrides.Overrides.SubnetId)
	s := w.cloud.Snapshot()
	require.Len(t, s.Interfaces, 2)
	require.Equal(t, testNodes, s.Interfaces[0].SubnetID)
	pod := s.Interfaces[1]
	require.Equal(t, testPods, pod.SubnetID)
	require.Len(t, pod.Prefixes, 7)
	require.Equal(t, "attached", pod.Attachment.Status, "it is there when the machine boots")
	require.Equal(t, int32(1), pod.Attachment.DeviceIndex)

	_, err = w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: out.Instances[0].InstanceIds})
	require.NoError(t, err)
	w.await("nothing leaks", func(s Snapshot) bool { return len(s.Interfaces) == 0 })
	require.Equal(t, 251, freeAddresses(t, w, testPods))
}

func TestWhatATemplateAsksForWronglyShowsInTheFleet(t *testing.T) {
	w := newWorld(t)
	inSubnet := func(index int32, subnet string) ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest {
		return ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{DeviceIndex: &index, SubnetId: &subnet, Groups: []string{testGroup}}
	}
	with := func(n ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest, change func(*ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest),
	) ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest {
		change(&n)
		return n
	}
	prefixes := func(count int32) func(*ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest) {
		return func(n *ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest) {
			n.Ipv4PrefixCount = &count
		}
	}
	for i, row := range []struct {
		name, code, text string
		template         func(*ec2types.RequestLaunchTemplateData)
		override         ec2types.FleetLaunchTemplateOverridesRequest
	}{
		{"subnets on both levels", "InvalidParameterCombination", "Network interfaces and an instance-level subnet ID", func(d *ec2types.RequestLaunchTemplateData) {
			d.NetworkInterfaces = append(d.NetworkInterfaces[:0], inSubnet(0, testNodes))
		}, w.on("m5.large", testNodes, "a")},
		{"groups on both levels", "InvalidParameterCombination", "security groups", func(d *ec2types.RequestLaunchTemplateData) {
			d.SecurityGroupIds = []string{testGroup}
		}, w.on("m5.large", testNodes, "a")},
		{"no primary interface", "InvalidParameterCombination", "device index 0", func(d *ec2types.RequestLaunchTemplateData) {
			d.NetworkInterfaces = append(d.NetworkInterfaces[:0], inSubnet(1, testPods))
		}, w.on("m5.large", "", "a")},
		{"one device index twice", "InvalidParameterValue", "unique device index", func(d *ec2types.RequestLaunchTemplateData) {
			d.NetworkInterfaces = append(d.NetworkInterfaces[:0], inSubnet(0, testNodes), inSubnet(0, testPods))
		}, w.on("m5.large", "", "a")},
		{"interfaces of two zones", "InvalidParameterCombination", "same availability zone", func(d *ec2types.RequestLaunchTemplateData) {
			d.NetworkInterfaces = append(d.NetworkInterfaces[:0], inSubnet(0, testNodesB), inSubnet(1, testPods))
		}, w.on("m5.large", "", "b")},
		{"another zone than the subnet's", "InvalidParameterCombination", "us-east-1b", func(*ec2types.RequestLaunchTemplateData) {}, w.on("m5.large", testNodes, "b")},
		{"too many interfaces", "AttachmentLimitExceeded", "Interface count 2 exceeds the limit for hpc6id.32xlarge", func(d *ec2types.RequestLaunchTemplateData) {
			d.NetworkInterfaces = append(d.NetworkInterfaces[:0], inSubnet(0, testNodes), inSubnet(1, testPods))
		}, w.on("hpc6id.32xlarge", "", "a")},
		{"an EFA on a type without", "InvalidParameterCombination", "m5.large instances do not support Elastic Fabric Adapters.", func(d *ec2types.RequestLaunchTemplateData) {
			d.NetworkInterfaces[0].InterfaceType = ptr("efa")
		}, w.on("m5.large", testNodes, "a")},
		{"two EFAs on a type with one", "AttachmentLimitExceeded", "Elastic Fabric Adapter count 2 exceeds the limit for m5n.24xlarge", func(d *ec2types.RequestLaunchTemplateData) {
			efa := func(n *ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest) {
				n.InterfaceType = ptr("efa")
			}
			d.NetworkInterfaces = append(d.NetworkInterfaces[:0], with(inSubnet(0, testNodes), efa), with(inSubnet(1, testPods), efa))
		}, w.on("m5n.24xlarge", "", "a")},
		{"too many tags of template and request", "TagLimitExceeded", "More than 50 tags are specified", func(d *ec2types.RequestLaunchTemplateData) {
			var tags []ec2types.Tag
			for i := range maxTags {
				tags = append(tags, ec2types.Tag{Key: ptr(fmt.Sprint("key-", i)), Value: ptr("")})
			}
			d.TagSpecifications = append(d.TagSpecifications, ec2types.LaunchTemplateTagSpecificationRequest{ResourceType: "instance", Tags: tags})
		}, w.on("m5.large", testNodes, "a")},
		{"too many prefixes", "InvalidInterface.IpAddressLimitExceeded", "Address count 11 exceeds the limit for m5.large", func(d *ec2types.RequestLaunchTemplateData) {
			d.NetworkInterfaces = append(d.NetworkInterfaces[:0], inSubnet(0, testNodes), with(inSubnet(1, testPods), prefixes(10)))
		}, w.on("m5.large", "", "a")},
		{"prefixes without Nitro", "InvalidParameterCombination", "Nitro", func(d *ec2types.RequestLaunchTemplateData) {
			d.NetworkInterfaces = append(d.NetworkInterfaces[:0], with(inSubnet(0, testNodes), prefixes(1)))
		}, w.on("m4.large", "", "a")},
		{"a public address and two interfaces", "InvalidParameterCombination", "multiple network interfaces", func(d *ec2types.RequestLaunchTemplateData) {
			public := with(inSubnet(0, testNodes), func(n *ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest) {
				n.AssociatePublicIpAddress = ptr(true)
			})
			d.NetworkInterfaces = append(d.NetworkInterfaces[:0], public, inSubnet(1, testPods))
		}, w.on("m5.large", "", "a")},
		{"no such image", "InvalidAMIID.NotFound", "The image id '[ami-0123456789abcdef0]' does not exist", func(*ec2types.RequestLaunchTemplateData) {},
			with2(w.on("m5.large", testNodes, "a"), func(o *ec2types.FleetLaunchTemplateOverridesRequest) { o.ImageId = ptr("ami-0123456789abcdef0") })},
		{"an image of another architecture", "InvalidParameterValue", "does not match the architecture", func(*ec2types.RequestLaunchTemplateData) {}, w.on("m6g.large", testNodes, "a")},
		{"no such profile", "InvalidParameterValue", "Invalid IAM Instance Profile name", func(d *ec2types.RequestLaunchTemplateData) {
			d.IamInstanceProfile.Name = ptr("nobody")
		}, w.on("m5.large", testNodes, "a")},
		{"a type that the zone does not offer", "Unsupported", "not supported in your requested Availability Zone (us-east-1a)", func(*ec2types.RequestLaunchTemplateData) {}, w.on(notIn("a"), testNodes, "a")},
		{"no subnet", "MissingInput", "No subnets found", func(*ec2types.RequestLaunchTemplateData) {}, w.on("m5.large", "", "a")},
		{"no such placement group", "InvalidPlacementGroupId.NotFound", "", func(d *ec2types.RequestLaunchTemplateData) {
			d.Placement.GroupId = ptr("pg-0123456789abcdef0")
		}, w.on("m5.large", testNodes, "a")},
		{"no such capacity reservation", "InvalidCapacityReservationId.NotFound", "", func(d *ec2types.RequestLaunchTemplateData) {
			d.CapacityReservationSpecification = &ec2types.LaunchTemplateCapacityReservationSpecificationRequest{
				CapacityReservationTarget: &ec2types.CapacityReservationTarget{CapacityReservationId: ptr("cr-0123456789abcdef0")},
			}
		}, w.on("m5.large", testNodes, "a")},
		{"too many hops", "InvalidParameterValue", "HttpPutResponseHopLimit", func(d *ec2types.RequestLaunchTemplateData) {
			d.MetadataOptions.HttpPutResponseHopLimit = ptr[int32](65)
		}, w.on("m5.large", testNodes, "a")},
	} {
		t.Run(row.name, func(t *testing.T) {
			name := fmt.Sprintf("wrong-%d", i)
			in := w.karpenterTemplate(name, primaryOnly())
			row.template(in.LaunchTemplateData)
			w.template(in)
			out, err := w.ec2.CreateFleet(t.Context(), fleet(name, 1, row.override))
			require.NoError(t, err)
			require.Empty(t, out.Instances)
			require.Len(t, out.Errors, 1)
			require.Equal(t, row.code, *out.Errors[0].ErrorCode, *out.Errors[0].ErrorMessage)
			require.Contains(t, *out.Errors[0].ErrorMessage, row.text)
			require.Equal(t, row.override.InstanceType, out.Errors[0].LaunchTemplateAndOverrides.Overrides.InstanceType)
			require.Empty(t, w.cloud.Snapshot().Interfaces, "a failed launch leaves nothing")
		})
	}
}

func with2(o ec2types.FleetLaunchTemplateOverridesRequest, change func(*ec2types.FleetLaunchTemplateOverridesRequest)) ec2types.FleetLaunchTemplateOverridesRequest {
	change(&o)
	return o
}

func TestAFleetGoesOnToTheNextPoolWhenOneIsShort(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("short", primaryOnly()))
	limit := w.fault(Fault{Capacity: &CapacityFault{Type: "m5.large", Zone: "us-east-1a", Lifecycle: "on-demand", Left: 1}})
	out, err := w.ec2.CreateFleet(t.Context(), fleet("short", 3, w.on("m5.large", testNodes, "a"), w.on("m5.xlarge", testNodesB, "b")))
	require.NoError(t, err)
	require.Len(t, out.Instances, 2)
	require.Len(t, out.Instances[0].InstanceIds, 1)
	require.Len(t, out.Instances[1].InstanceIds, 2)
	require.Len(t, out.Errors, 1)
	require.Equal(t, "InsufficientInstanceCapacity", *out.Errors[0].ErrorCode)
	require.Contains(t, *out.Errors[0].ErrorMessage, "sufficient m5.large capacity in the Availability Zone you requested (us-east-1a)")

	_, err = w.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: "m5.large", SubnetId: ptr(testNodes), MinCount: ptr[int32](1), MaxCount: ptr[int32](1),
	})
	requireError(t, err, "InsufficientInstanceCapacity", "")
	requireStatus(t, err, http.StatusInternalServerError)
	require.NoError(t, w.cloud.RemoveFault(limit.ID))
	w.run("m5.large", testNodes)
}

func TestAFullSubnetShowsInTheFleetAndNothingIsHalfMade(t *testing.T) {
	w := newWorld(t)
	tiny := w.subnet("10.0.4.0/28", "us-east-1a")
	w.template(w.karpenterTemplate("tiny", primaryOnly()))
	out, err := w.ec2.CreateFleet(t.Context(), fleet("tiny", 20, w.on("m5.large", tiny, "a")))
	require.NoError(t, err)
	require.Len(t, out.Instances[0].InstanceIds, 11)
	require.Equal(t, "InsufficientFreeAddressesInSubnet", *out.Errors[0].ErrorCode)

	primary := primaryOnly()
	primary.SubnetId = ptr(testNodes)
	w.template(w.karpenterTemplate("no-prefixes", primary, ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{
		DeviceIndex: ptr[int32](1), SubnetId: ptr(testPods), Groups: []string{testGroup}, Ipv4PrefixCount: ptr[int32](9),
	}))
	out, err = w.ec2.CreateFleet(t.Context(), fleet("no-prefixes", 2, w.on("m5.large", "", "a")))
	require.NoError(t, err)
	require.Len(t, out.Instances[0].InstanceIds, 1)
	require.Equal(t, "InvalidParameterValue", *out.Errors[0].ErrorCode)
	require.Equal(t, 250, freeAddresses(t, w, testNodes), "the second launch gave its node address back")
}

func TestAFleetThatEC2RefusesAsAWholeIsRefused(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("whole", primaryOnly()))
	second := w.subnet("10.0.5.0/24", "us-east-1a")
	_, err := w.ec2.CreateFleet(t.Context(), fleet("whole", 1, w.on("m5.large", testNodes, "a"), w.on("m5.large", second, "a")))
	requireError(t, err, "InvalidFleetConfig", "The fleet configuration contains duplicate instance pools.")
	_, err = w.ec2.CreateFleet(t.Context(), fleet("nobody", 1, w.on("m5.large", testNodes, "a")))
	requireError(t, err, "InvalidLaunchTemplateName.NotFoundException", "At least one of the launch templates specified in the request does not exist.")
	in := fleet("whole", 1, w.on("m5.large", testNodes, "a"))
	in.LaunchTemplateConfigs[0].LaunchTemplateSpecification.Version = ptr("9")
	_, err = w.ec2.CreateFleet(t.Context(), in)
	requireError(t, err, "InvalidLaunchTemplateId.VersionNotFound", "")
	in = fleet("whole", 1, w.on("m5.large", testNodes, "a"))
	in.LaunchTemplateConfigs[0].LaunchTemplateSpecification = &ec2types.FleetLaunchTemplateSpecificationRequest{LaunchTemplateId: ptr("lt-0123456789abcdef0"), Version: ptr("1")}
	_, err = w.ec2.CreateFleet(t.Context(), in)
	requireError(t, err, "InvalidLaunchTemplateId.NotFound", "")
	in = fleet("whole", 1, w.on("m5.large", testNodes, "a"))
	in.Type = ec2types.FleetTypeMaintain
	_, err = w.ec2.CreateFleet(t.Context(), in)
	requireError(t, err, "UnsupportedOperation", "maintain")
}

func TestALaunchTemplateIsNamedOnceFoundAndDeleted(t *testing.T) {
	w := newWorld(t)
	in := w.karpenterTemplate("karpenter.k8s.aws/42", primaryOnly())
	w.template(in)
	_, err := w.ec2.CreateLaunchTemplate(t.Context(), w.karpenterTemplate("karpenter.k8s.aws/42", primaryOnly()))
	requireError(t, err, "InvalidLaunchTemplateName.AlreadyExistsException", "")
	big := w.karpenterTemplate("big", primaryOnly())
	big.LaunchTemplateData.UserData = encoded(strings.Repeat("x", maxUserData+1))
	_, err = w.ec2.CreateLaunchTemplate(t.Context(), big)
	requireError(t, err, "InvalidUserData.Malformed", "User data is limited to 16384 bytes")
	big.LaunchTemplateData.UserData = ptr("not base64!")
	_, err = w.ec2.CreateLaunchTemplate(t.Context(), big)
	requireError(t, err, "InvalidUserData.Malformed", "BASE64")

	out, err := w.ec2.DescribeLaunchTemplates(t.Context(), &ec2.DescribeLaunchTemplatesInput{
		MaxResults: ptr[int32](200), Filters: []ec2types.Filter{{Name: ptr("tag:eks:eks-cluster-name"), Values: []string{"dovetail-sandbox"}}},
	})
	require.NoError(t, err)
	require.Len(t, out.LaunchTemplates, 1)
	_, err = w.ec2.DeleteLaunchTemplate(t.Context(), &ec2.DeleteLaunchTemplateInput{LaunchTemplateId: out.LaunchTemplates[0].LaunchTemplateId})
	require.NoError(t, err)
	_, err = w.ec2.DescribeLaunchTemplates(t.Context(), &ec2.DescribeLaunchTemplatesInput{LaunchTemplateNames: []string{"karpenter.k8s.aws/42"}})
	requireError(t, err, "InvalidLaunchTemplateName.NotFoundException", "")
	_, err = w.ec2.DeleteLaunchTemplate(t.Context(), &ec2.DeleteLaunchTemplateInput{LaunchTemplateId: ptr("lt-0123456789abcdef0")})
	requireError(t, err, "InvalidLaunchTemplateId.NotFound", "")
}

func TestRunInstancesRefusesWhatEC2Refuses(t *testing.T) {
	w := newWorld(t)
	base := func() *ec2.RunInstancesInput {
		return &ec2.RunInstancesInput{
			ImageId: &w.image, InstanceType: "m5.large", MinCount: ptr[int32](1), MaxCount: ptr[int32](1), SubnetId: ptr(testNodes),
		}
	}
	in := base()
	in.NetworkInterfaces = []ec2types.InstanceNetworkInterfaceSpecification{{DeviceIndex: ptr[int32](0), SubnetId: ptr(testNodes)}}
	_, err := w.ec2.RunInstances(t.Context(), in)
	requireError(t, err, "InvalidParameterCombination", "Network interfaces and an instance-level subnet ID may not be specified on the same request")
	in = base()
	in.InstanceType = "m5.none"
	_, err = w.ec2.RunInstances(t.Context(), in)
	requireError(t, err, "InvalidParameterValue", "Invalid value 'm5.none' for InstanceType.")
	in = base()
	in.MaxCount = ptr[int32](0)
	_, err = w.ec2.RunInstances(t.Context(), in)
	requireError(t, err, "InvalidParameterValue", "MaxCount")
	in = base()
	in.KeyName = ptr("key")
	_, err = w.ec2.RunInstances(t.Context(), in)
	requireError(t, err, "UnsupportedOperation", "the parameter KeyName of RunInstances")
	in = base()
	in.SubnetId = ptr(w.subnet("10.0.6.0/28", "us-east-1a"))
	in.MinCount, in.MaxCount = ptr[int32](12), ptr[int32](12)
	_, err = w.ec2.RunInstances(t.Context(), in)
	requireError(t, err, "InsufficientFreeAddressesInSubnet", "")
	require.Empty(t, w.cloud.Snapshot().Interfaces, "all or none of MinCount")
	in.MinCount, in.ClientToken = ptr[int32](1), nil
	out, err := w.ec2.RunInstances(t.Context(), in)
	require.NoError(t, err)
	require.Len(t, out.Instances, 11)
}

// notIn returns a type that us-east-1 offers, but not in the zone of this letter.
func notIn(letter string) string {
	for _, name := range []string{"a1.large", "m7i-flex.large", "u-6tb1.112xlarge", "p4de.24xlarge", "mac1.metal", "x2iezn.2xlarge", "hpc6a.48xlarge", "hpc6id.32xlarge", "dl1.24xlarge", "trn1.2xlarge", "inf2.xlarge", "vt1.3xlarge"} {
		if zones := zoneLettersX86(name); zones != "" && !strings.Contains(zones, letter) {
			return name
		}
	}
	return ""
}

func zoneLettersX86(name string) string {
	info, ok := instancetypes.Info(name)
	if !ok || info.ProcessorInfo.SupportedArchitectures[0] != ec2types.ArchitectureTypeX8664 {
		return ""
	}
	return instancetypes.ZoneLetters(name)
}
