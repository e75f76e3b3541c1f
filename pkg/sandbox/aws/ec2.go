// SPDX-License-Identifier: Apache-2.0

package aws

// ec2Actions returns the EC2 calls that are simulated, each with the parameters that have an effect.
func ec2Actions() map[string]action {
	const paged = " Filter MaxResults NextToken"
	const template = ` LaunchTemplateData.ImageId LaunchTemplateData.InstanceType LaunchTemplateData.UserData
		LaunchTemplateData.IamInstanceProfile LaunchTemplateData.SecurityGroupId
		LaunchTemplateData.Placement.Tenancy LaunchTemplateData.Placement.AvailabilityZone LaunchTemplateData.Placement.GroupId
		LaunchTemplateData.Placement.GroupName LaunchTemplateData.MetadataOptions
		LaunchTemplateData.Placement.PartitionNumber
		LaunchTemplateData.CapacityReservationSpecification LaunchTemplateData.InstanceMarketOptions.MarketType
		LaunchTemplateData.TagSpecification `
	return map[string]action{
		"DescribeAvailabilityZones":     read("Filter ZoneName", (*request).describeZones),
		"DescribeInstanceTypes":         read("InstanceType"+paged, (*request).describeInstanceTypes),
		"DescribeInstanceTypeOfferings": read("LocationType"+paged, (*request).describeOfferings),
		"DescribeSpotPriceHistory":      read("InstanceType ProductDescription AvailabilityZone StartTime EndTime"+paged, (*request).describeSpotPrices),
		"DescribeCapacityReservations":  read("CapacityReservationId"+paged, (*request).describeCapacityReservations),
		"CreateCapacityReservation": write(`InstanceType InstancePlatform InstanceCount AvailabilityZone AvailabilityZoneId InstanceMatchCriteria
			EndDate EndDateType Tenancy TagSpecifications`, (*request).createCapacityReservation),
		"CancelCapacityReservation": write("CapacityReservationId", (*request).cancelCapacityReservation),
		"DescribePlacementGroups":   read("Filter GroupId GroupName", (*request).describePlacementGroups),
		"CreatePlacementGroup":      write("GroupName Strategy PartitionCount SpreadLevel TagSpecification", (*request).createPlacementGroup),
		"DeletePlacementGroup":      write("GroupName", (*request).deletePlacementGroup),
		"DescribeImages":            read("ImageId Owner"+paged, (*request).describeImages),

		"CreateVpc":                write("CidrBlock TagSpecification", (*request).createVPC),
		"AssociateVpcCidrBlock":    write("VpcId CidrBlock", (*request).associateVPCBlock),
		"DescribeVpcs":             read("VpcId"+paged, (*request).describeVPCs),
		"DisassociateVpcCidrBlock": write("AssociationId", (*request).disassociateVPCBlock),
		"DeleteVpc":                write("VpcId", (*request).deleteVPC),
		"DescribeVpcAttribute":     read("VpcId Attribute", (*request).describeVPCAttribute),
		"ModifyVpcAttribute":       write("VpcId EnableDnsSupport EnableDnsHostnames EnableNetworkAddressUsageMetrics", (*request).modifyVPCAttribute),

		"CreateSubnet":                write("VpcId CidrBlock AvailabilityZone AvailabilityZoneId TagSpecification", (*request).createSubnet),
		"ModifySubnetAttribute":       write("SubnetId MapPublicIpOnLaunch", (*request).modifySubnetAttribute),
		"DescribeSubnets":             read("SubnetId"+paged, (*request).describeSubnets),
		"DeleteSubnet":                write("SubnetId", (*request).deleteSubnet),
		"CreateSubnetCidrReservation": write("SubnetId Cidr ReservationType Description TagSpecification", (*request).createReservation),
		"DeleteSubnetCidrReservation": write("SubnetCidrReservationId", (*request).deleteReservation),
		"GetSubnetCidrReservations":   read("SubnetId"+paged, (*request).getReservations),

		"CreateRouteTable":             write("VpcId TagSpecification", (*request).createRouteTable),
		"AssociateRouteTable":          write("RouteTableId SubnetId", (*request).associateRouteTable),
		"CreateRoute":                  write("RouteTableId DestinationCidrBlock GatewayId NatGatewayId NetworkInterfaceId VpcPeeringConnectionId TransitGatewayId", (*request).createRoute),
		"DescribeRouteTables":          read("RouteTableId"+paged, (*request).describeRouteTables),
		"ReplaceRoute":                 write("RouteTableId DestinationCidrBlock GatewayId NatGatewayId NetworkInterfaceId VpcPeeringConnectionId TransitGatewayId", (*request).replaceRoute),
		"DeleteRoute":                  write("RouteTableId DestinationCidrBlock", (*request).deleteRoute),
		"DeleteRouteTable":             write("RouteTableId", (*request).deleteRouteTable),
		"DisassociateRouteTable":       write("AssociationId", (*request).disassociateRouteTable),
		"ReplaceRouteTableAssociation": write("AssociationId RouteTableId", (*request).replaceAssociation),
		"CreateInternetGateway":        write("TagSpecification", (*request).createInternetGateway),
		"AttachInternetGateway":        write("InternetGatewayId VpcId", (*request).attachInternetGateway),
		"DetachInternetGateway":        write("InternetGatewayId VpcId", (*request).detachInternetGateway),
		"DeleteInternetGateway":        write("InternetGatewayId", (*request).deleteInternetGateway),
		"DescribeInternetGateways":     read("InternetGatewayId"+paged, (*request).describeInternetGateways),
		"AllocateAddress":              write("Domain TagSpecification", (*request).allocateAddress),
		"ReleaseAddress":               write("AllocationId", (*request).releaseAddress),
		"DescribeAddresses":            read("AllocationId PublicIp Filter", (*request).describeAddresses),
		"CreateNatGateway":             write("SubnetId AllocationId ConnectivityType TagSpecification", (*request).createNATGateway),
		"DescribeNatGateways":          read("NatGatewayId"+paged, (*request).describeNATGateways),
		"DeleteNatGateway":             write("NatGatewayId", (*request).deleteNATGateway),

		"CreateVpcPeeringConnection":    write("VpcId PeerVpcId PeerOwnerId PeerRegion TagSpecification", (*request).createPeering),
		"AcceptVpcPeeringConnection":    write("VpcPeeringConnectionId", (*request).acceptPeering),
		"DescribeVpcPeeringConnections": read("VpcPeeringConnectionId"+paged, (*request).describePeerings),
		"DeleteVpcPeeringConnection":    write("VpcPeeringConnectionId", (*request).deletePeering),

		"CreateTransitGateway": write(`Description Options.DefaultRouteTableAssociation Options.DefaultRouteTablePropagation
			TagSpecification`, (*request).createTransitGateway),
		"DescribeTransitGateways":                    read("TransitGatewayIds"+paged, (*request).describeTransitGateways),
		"DeleteTransitGateway":                       write("TransitGatewayId", (*request).deleteTransitGateway),
		"CreateTransitGatewayVpcAttachment":          write("TransitGatewayId VpcId SubnetIds TagSpecifications", (*request).createTransitAttachment),
		"DescribeTransitGatewayVpcAttachments":       read("TransitGatewayAttachmentIds"+paged, (*request).describeTransitVPCAttachments),
		"DeleteTransitGatewayVpcAttachment":          write("TransitGatewayAttachmentId", (*request).deleteTransitAttachment),
		"DescribeTransitGatewayAttachments":          read("TransitGatewayAttachmentIds"+paged, (*request).describeTransitAttachments),
		"CreateTransitGatewayRouteTable":             write("TransitGatewayId TagSpecifications", (*request).createTransitTable),
		"DescribeTransitGatewayRouteTables":          read("TransitGatewayRouteTableIds"+paged, (*request).describeTransitTables),
		"AssociateTransitGatewayRouteTable":          write("TransitGatewayRouteTableId TransitGatewayAttachmentId", (*request).associateTransitTable),
		"DisassociateTransitGatewayRouteTable":       write("TransitGatewayRouteTableId TransitGatewayAttachmentId", (*request).disassociateTransitTable),
		"EnableTransitGatewayRouteTablePropagation":  write("TransitGatewayRouteTableId TransitGatewayAttachmentId", (*request).enablePropagation),
		"DisableTransitGatewayRouteTablePropagation": write("TransitGatewayRouteTableId TransitGatewayAttachmentId", (*request).disablePropagation),
		"GetTransitGatewayAttachmentPropagations":    read("TransitGatewayAttachmentId"+paged, (*request).getPropagations),
		"CreateTransitGatewayRoute":                  write("TransitGatewayRouteTableId TransitGatewayAttachmentId DestinationCidrBlock Blackhole", (*request).createTransitRoute),
		"SearchTransitGatewayRoutes":                 read("TransitGatewayRouteTableId"+paged, (*request).searchTransitRoutes),

		"CreateSecurityGroup":           write("VpcId GroupName GroupDescription TagSpecification", (*request).createSecurityGroup),
		"AuthorizeSecurityGroupIngress": write("GroupId TagSpecification "+permissions, (*request).authorizeIngress),
		"AuthorizeSecurityGroupEgress":  write("GroupId TagSpecification "+permissions, (*request).authorizeEgress),
		"DescribeSecurityGroups":        read("GroupId"+paged, (*request).describeSecurityGroups),
		"RevokeSecurityGroupIngress":    write("GroupId SecurityGroupRuleId "+permissions, (*request).revokeIngress),
		"RevokeSecurityGroupEgress":     write("GroupId SecurityGroupRuleId "+permissions, (*request).revokeEgress),
		"DescribeSecurityGroupRules":    read("SecurityGroupRuleId"+paged, (*request).describeRules),
		"DeleteSecurityGroup":           write("GroupId", (*request).deleteSecurityGroup),

		"CreateNetworkInterface": write(`SubnetId SecurityGroupId InterfaceType Description PrivateIpAddress PrivateIpAddresses
			SecondaryPrivateIpAddressCount Ipv4PrefixCount Ipv4Prefix TagSpecification`, (*request).createInterface),
		"DeleteNetworkInterface":            write("NetworkInterfaceId", (*request).deleteInterface),
		"ModifyNetworkInterfaceAttribute":   write("NetworkInterfaceId Description SourceDestCheck SecurityGroupId Attachment", (*request).modifyInterface),
		"DescribeNetworkInterfaces":         read("NetworkInterfaceId"+paged, (*request).describeInterfaces),
		"DescribeNetworkInterfaceAttribute": read("NetworkInterfaceId Attribute", (*request).describeInterfaceAttribute),
		"AttachNetworkInterface":            write("NetworkInterfaceId InstanceId DeviceIndex NetworkCardIndex", (*request).attachInterface),
		"DetachNetworkInterface":            write("AttachmentId", (*request).detachInterface),
		"AssignPrivateIpAddresses": write(`NetworkInterfaceId PrivateIpAddress SecondaryPrivateIpAddressCount Ipv4PrefixCount Ipv4Prefix
			AllowReassignment`, (*request).assignAddresses),
		"UnassignPrivateIpAddresses": write("NetworkInterfaceId PrivateIpAddress Ipv4Prefix", (*request).unassignAddresses),

		"CreateLaunchTemplate": write("LaunchTemplateName VersionDescription TagSpecification"+template+
			interfaceParameters("LaunchTemplateData.NetworkInterface."), (*request).createTemplate),
		"CreateLaunchTemplateVersion": write("LaunchTemplateId LaunchTemplateName SourceVersion VersionDescription"+template+
			interfaceParameters("LaunchTemplateData.NetworkInterface."), (*request).createTemplateVersion),
		"ModifyLaunchTemplate":           write("LaunchTemplateId LaunchTemplateName SetDefaultVersion", (*request).modifyTemplate),
		"DeleteLaunchTemplate":           write("LaunchTemplateId LaunchTemplateName", (*request).deleteTemplate),
		"DeleteLaunchTemplateVersions":   write("LaunchTemplateId LaunchTemplateName LaunchTemplateVersion", (*request).deleteTemplateVersions),
		"DescribeLaunchTemplates":        read("LaunchTemplateId LaunchTemplateName"+paged, (*request).describeTemplates),
		"DescribeLaunchTemplateVersions": read("LaunchTemplateId LaunchTemplateName LaunchTemplateVersion MinVersion MaxVersion"+paged, (*request).describeTemplateVersions),
		"CreateFleet": write(`Type TargetCapacitySpecification.TotalTargetCapacity TargetCapacitySpecification.DefaultTargetCapacityType
			OnDemandOptions.AllocationStrategy SpotOptions.AllocationStrategy LaunchTemplateConfigs.LaunchTemplateSpecification
			LaunchTemplateConfigs.Overrides.InstanceType LaunchTemplateConfigs.Overrides.ImageId LaunchTemplateConfigs.Overrides.SubnetId
			LaunchTemplateConfigs.Overrides.AvailabilityZone LaunchTemplateConfigs.Overrides.Priority TagSpecification`, (*request).createFleet),
		"RunInstances": write(`ImageId InstanceType MinCount MaxCount UserData SubnetId SecurityGroupId IamInstanceProfile LaunchTemplate
			Placement.AvailabilityZone Placement.Tenancy Placement.GroupId Placement.GroupName Placement.PartitionNumber MetadataOptions
			CapacityReservationSpecification InstanceMarketOptions.MarketType TagSpecification `+
			interfaceParameters("NetworkInterface."), (*request).runInstances),
		"DescribeInstanceAttribute": read("InstanceId Attribute", (*request).describeInstanceAttribute),
		"ModifyInstanceAttribute":   write("InstanceId SourceDestCheck GroupId", (*request).modifyInstanceAttribute),
		"ModifyInstanceMetadataOptions": write("InstanceId HttpTokens HttpPutResponseHopLimit HttpEndpoint HttpProtocolIpv6 InstanceMetadataTags",
			(*request).modifyMetadataOptions),
		"DescribeInstances":      read("InstanceId"+paged, (*request).describeInstances),
		"DescribeInstanceStatus": read("InstanceId IncludeAllInstances"+paged, (*request).describeInstanceStatus),
		"TerminateInstances":     write("InstanceId", (*request).terminateInstances),
		"StopInstances":          write("InstanceId", (*request).stopInstances),
		"StartInstances":         write("InstanceId", (*request).startInstances),

		"CreateTags":   write("ResourceId Tag", (*request).createTags),
		"DeleteTags":   write("ResourceId Tag", (*request).deleteTags),
		"DescribeTags": read(paged, (*request).describeTags),
	}
}

const permissions = `IpPermissions.IpProtocol IpPermissions.FromPort IpPermissions.ToPort IpPermissions.IpRanges
	IpPermissions.Groups.GroupId IpPermissions.Groups.UserId IpPermissions.Groups.Description`

// interfaceParameters are those of an interface in a launch.
func interfaceParameters(path string) string {
	parameters := ""
	for _, name := range []string{
		"DeviceIndex", "NetworkCardIndex", "SubnetId", "SecurityGroupId", "Description", "InterfaceType", "DeleteOnTermination",
		"AssociatePublicIpAddress", "PrivateIpAddress", "PrivateIpAddresses", "SecondaryPrivateIpAddressCount", "Ipv4PrefixCount", "Ipv4Prefix",
	} {
		parameters += path + name + " "
	}
	return parameters
}
