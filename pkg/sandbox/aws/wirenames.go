// SPDX-License-Identifier: Apache-2.0

package aws

import "strings"

// ec2Protocol spells names as EC2's Query protocol does: a list parameter is the field's singular, a list element the
// singular with "Set" and in lower camel case, its items are "item". What follows no rule stands in tables, which a
// test compares with the SDK's own encoder and decoder for every call that is served.
type ec2Protocol struct{}

func (ec2Protocol) parameter(structure, field string, list bool) string {
	if name, ok := ec2Parameters[structure+"."+field]; ok {
		return name
	}
	if name, ok := ec2Parameters[field]; ok && list {
		return name
	}
	if list {
		return strings.TrimSuffix(field, "s")
	}
	return field
}

func (ec2Protocol) element(structure, field string, list bool) string {
	if name, ok := ec2Elements[structure+"."+field]; ok {
		return name
	}
	name := strings.ToLower(field[:1]) + field[1:]
	if plainLists[structure+"."+field] {
		return name
	}
	if list {
		return strings.TrimSuffix(name, "s") + "Set"
	}
	return name
}

func (ec2Protocol) item(structure, field string) string {
	switch structure + "." + field {
	case "InferenceAcceleratorInfo.Accelerators":
		return "member"
	case "LaunchTemplateInstanceNetworkInterfaceSpecification.Groups":
		return "groupId"
	}
	return "item"
}

// ec2Parameters names request parameters, by structure and field or for every list field of a name.
var ec2Parameters = map[string]string{
	"Groups":          "SecurityGroupId",
	"Ipv4Prefixes":    "Ipv4Prefix",
	"Ipv6Prefixes":    "Ipv6Prefix",
	"IpPermissions":   "IpPermissions",
	"IpRanges":        "IpRanges",
	"Ipv6Ranges":      "Ipv6Ranges",
	"PrefixListIds":   "PrefixListIds",
	"Ipv6Addresses":   "Ipv6Addresses",
	"Resources":       "ResourceId",
	"Overrides":       "Overrides",
	"ExecutableUsers": "ExecutableBy",

	"TransitGatewayIds":           "TransitGatewayIds",
	"TransitGatewayAttachmentIds": "TransitGatewayAttachmentIds",
	"TransitGatewayRouteTableIds": "TransitGatewayRouteTableIds",
	"TransitGatewayCidrBlocks":    "TransitGatewayCidrBlocks",

	"CreateTransitGatewayVpcAttachmentInput.SubnetIds":         "SubnetIds",
	"CreateTransitGatewayVpcAttachmentInput.TagSpecifications": "TagSpecifications",
	"CreateTransitGatewayRouteTableInput.TagSpecifications":    "TagSpecifications",

	"AssignPrivateIpAddressesInput.PrivateIpAddresses":                                "PrivateIpAddress",
	"CreateCapacityReservationInput.TagSpecifications":                                "TagSpecifications",
	"CreateFleetInput.LaunchTemplateConfigs":                                          "LaunchTemplateConfigs",
	"CreateNatGatewayInput.AvailabilityZoneAddresses":                                 "AvailabilityZoneAddress",
	"CreateNatGatewayInput.SecondaryPrivateIpAddresses":                               "SecondaryPrivateIpAddress",
	"CreateNetworkInterfaceInput.PrivateIpAddresses":                                  "PrivateIpAddresses",
	"CreateSecurityGroupInput.Description":                                            "GroupDescription",
	"DeleteLaunchTemplateVersionsInput.Versions":                                      "LaunchTemplateVersion",
	"DescribeLaunchTemplateVersionsInput.Versions":                                    "LaunchTemplateVersion",
	"InstanceNetworkInterfaceSpecification.PrivateIpAddresses":                        "PrivateIpAddresses",
	"InstanceSecondaryInterfaceSpecificationRequest.PrivateIpAddresses":               "PrivateIpAddress",
	"IpPermission.UserIdGroupPairs":                                                   "Groups",
	"LaunchTemplateInstanceNetworkInterfaceSpecificationRequest.PrivateIpAddresses":   "PrivateIpAddresses",
	"LaunchTemplateInstanceSecondaryInterfaceSpecificationRequest.PrivateIpAddresses": "PrivateIpAddress",
	"ModifyInstanceAttributeInput.Groups":                                             "GroupId",
	"ModifyLaunchTemplateInput.DefaultVersion":                                        "SetDefaultVersion",
	"RunInstancesInput.Ipv6Addresses":                                                 "Ipv6Address",
	"UnassignPrivateIpAddressesInput.PrivateIpAddresses":                              "PrivateIpAddress",
}

// ec2Elements names elements of replies.
var ec2Elements = map[string]string{
	"AssignPrivateIpAddressesOutput.AssignedIpv4Prefixes":                      "assignedIpv4PrefixSet",
	"AssignPrivateIpAddressesOutput.AssignedPrivateIpAddresses":                "assignedPrivateIpAddressesSet",
	"AvailabilityZone.State":                                                   "zoneState",
	"CapacityAllocation.AllocationMetadata":                                    "allocationMetadataList",
	"CreateFleetOutput.Instances":                                              "fleetInstanceSet",
	"DescribeAddressesOutput.Addresses":                                        "addressesSet",
	"DescribeAvailabilityZonesOutput.AvailabilityZones":                        "availabilityZoneInfo",
	"DescribeImagesOutput.Images":                                              "imagesSet",
	"DescribeInstanceAttributeOutput.BlockDeviceMappings":                      "blockDeviceMapping",
	"DescribeInstanceAttributeOutput.Groups":                                   "groupSet",
	"DescribeInstanceAttributeOutput.KernelId":                                 "kernel",
	"DescribeInstanceAttributeOutput.ProductCodes":                             "productCodes",
	"DescribeInstanceAttributeOutput.RamdiskId":                                "ramdisk",
	"DescribeInstanceStatusOutput.InstanceStatuses":                            "instanceStatusSet",
	"DescribeSecurityGroupsOutput.SecurityGroups":                              "securityGroupInfo",
	"Image.BlockDeviceMappings":                                                "blockDeviceMapping",
	"Image.OwnerId":                                                            "imageOwnerId",
	"Image.Public":                                                             "isPublic",
	"Image.State":                                                              "imageState",
	"Instance.BlockDeviceMappings":                                             "blockDeviceMapping",
	"Instance.PublicDnsName":                                                   "dnsName",
	"Instance.PublicIpAddress":                                                 "ipAddress",
	"Instance.SecurityGroups":                                                  "groupSet",
	"Instance.State":                                                           "instanceState",
	"Instance.StateTransitionReason":                                           "reason",
	"InstanceNetworkInterface.Ipv4Prefixes":                                    "ipv4PrefixSet",
	"InstanceNetworkInterface.Ipv6Addresses":                                   "ipv6AddressesSet",
	"InstanceNetworkInterface.Ipv6Prefixes":                                    "ipv6PrefixSet",
	"InstanceNetworkInterface.PrivateIpAddresses":                              "privateIpAddressesSet",
	"InstanceSecondaryInterface.PrivateIpAddresses":                            "privateIpAddressSet",
	"InstanceStatus.Events":                                                    "eventsSet",
	"IpPermission.UserIdGroupPairs":                                            "groups",
	"LaunchTemplateInstanceNetworkInterfaceSpecification.Ipv4Prefixes":         "ipv4PrefixSet",
	"LaunchTemplateInstanceNetworkInterfaceSpecification.Ipv6Addresses":        "ipv6AddressesSet",
	"LaunchTemplateInstanceNetworkInterfaceSpecification.Ipv6Prefixes":         "ipv6PrefixSet",
	"LaunchTemplateInstanceNetworkInterfaceSpecification.PrivateIpAddresses":   "privateIpAddressesSet",
	"LaunchTemplateInstanceSecondaryInterfaceSpecification.PrivateIpAddresses": "privateIpAddressesSet",
	"NatGateway.NatGatewayAddresses":                                           "natGatewayAddressSet",
	"NetworkInterface.Ipv4Prefixes":                                            "ipv4PrefixSet",
	"NetworkInterface.Ipv6Addresses":                                           "ipv6AddressesSet",
	"NetworkInterface.Ipv6Prefixes":                                            "ipv6PrefixSet",
	"NetworkInterface.PrivateIpAddresses":                                      "privateIpAddressesSet",
	"NetworkInterface.TagSet":                                                  "tagSet",
	"ProductCode.ProductCodeId":                                                "productCode",
	"ProductCode.ProductCodeType":                                              "type",
	"Reservation.Instances":                                                    "instancesSet",
	"ResponseLaunchTemplateData.LicenseSpecifications":                         "licenseSet",
	"RunInstancesOutput.Instances":                                             "instancesSet",
	"SecurityGroup.Description":                                                "groupDescription",
	"StartInstancesOutput.StartingInstances":                                   "instancesSet",
	"StopInstancesOutput.StoppingInstances":                                    "instancesSet",
	"TerminateInstancesOutput.TerminatingInstances":                            "instancesSet",
}

// plainLists are the lists of replies that are named as their field is.
var plainLists = map[string]bool{
	"CreateFleetInstance.InstanceIds":                                         true,
	"DescribeLaunchTemplatesOutput.LaunchTemplates":                           true,
	"EbsStatusSummary.Details":                                                true,
	"FpgaInfo.Fpgas":                                                          true,
	"GpuInfo.Gpus":                                                            true,
	"Image.ProductCodes":                                                      true,
	"InferenceAcceleratorInfo.Accelerators":                                   true,
	"Instance.ProductCodes":                                                   true,
	"InstanceStatusSummary.Details":                                           true,
	"InstanceStorageInfo.Disks":                                               true,
	"InstanceTypeInfo.SupportedBootModes":                                     true,
	"InstanceTypeInfo.SupportedRootDeviceTypes":                               true,
	"InstanceTypeInfo.SupportedUsageClasses":                                  true,
	"InstanceTypeInfo.SupportedVirtualizationTypes":                           true,
	"IpPermission.IpRanges":                                                   true,
	"IpPermission.Ipv6Ranges":                                                 true,
	"IpPermission.PrefixListIds":                                              true,
	"MediaAcceleratorInfo.Accelerators":                                       true,
	"NetworkInfo.BandwidthWeightings":                                         true,
	"NetworkInfo.NetworkCards":                                                true,
	"NeuronInfo.NeuronDevices":                                                true,
	"NitroTpmInfo.SupportedVersions":                                          true,
	"PlacementGroupInfo.SupportedStrategies":                                  true,
	"ProcessorInfo.SupportedArchitectures":                                    true,
	"ProcessorInfo.SupportedFeatures":                                         true,
	"SecurityGroup.IpPermissions":                                             true,
	"SecurityGroup.IpPermissionsEgress":                                       true,
	"Subnet.Ipv6CidrBlockAssociationSet":                                      true,
	"VCpuInfo.ValidCores":                                                     true,
	"DescribeTransitGatewayVpcAttachmentsOutput.TransitGatewayVpcAttachments": true,
	"DescribeTransitGatewayAttachmentsOutput.TransitGatewayAttachments":       true,
	"DescribeTransitGatewayRouteTablesOutput.TransitGatewayRouteTables":       true,
	"GetTransitGatewayAttachmentPropagationsOutput.TransitGatewayAttachmentPropagations": true,
	"TransitGatewayOptions.TransitGatewayCidrBlocks":                                     true,
	"TransitGatewayVpcAttachment.SubnetIds":                                              true,
	"TransitGatewayRoute.TransitGatewayAttachments":                                      true,
	"VCpuInfo.ValidThreadsPerCore":                                                       true,
	"Vpc.CidrBlockAssociationSet":                                                        true,
	"Vpc.Ipv6CidrBlockAssociationSet":                                                    true,
	"VpcPeeringConnectionVpcInfo.CidrBlockSet":                                           true,
	"VpcPeeringConnectionVpcInfo.Ipv6CidrBlockSet":                                       true,
}

// iamProtocol spells names as the Query protocol of IAM and STS does: as the fields, with list items named "member".
type iamProtocol struct{}

func (iamProtocol) parameter(_, field string, _ bool) string { return field }
func (iamProtocol) element(_, field string, _ bool) string   { return field }
func (iamProtocol) item(_, _ string) string                  { return "member" }
