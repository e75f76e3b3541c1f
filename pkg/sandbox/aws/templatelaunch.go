// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"strconv"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// launch turns the data of a template's version into a launch.
func (t *launchTemplate) launch(v *templateVersion) (launch, error) {
	d := v.data
	l := launch{
		imageID: awssdk.ToString(d.ImageId), instanceType: string(d.InstanceType), userData: awssdk.ToString(d.UserData),
		groups:     d.SecurityGroupIds,
		systemTags: map[string]string{"aws:ec2launchtemplate:id": t.id, "aws:ec2launchtemplate:version": strconv.FormatInt(v.number, 10)},
	}
	if d.IamInstanceProfile != nil {
		l.profileName, l.profileARN = awssdk.ToString(d.IamInstanceProfile.Name), awssdk.ToString(d.IamInstanceProfile.Arn)
	}
	if p := d.Placement; p != nil {
		l.zone, l.tenancy = awssdk.ToString(p.AvailabilityZone), p.Tenancy
		l.placement = placement{
			groupID: awssdk.ToString(p.GroupId), groupName: awssdk.ToString(p.GroupName), partition: awssdk.ToInt32(p.PartitionNumber),
		}
	}
	if m := d.MetadataOptions; m != nil {
		l.metadata = metadataRequest{
			endpoint: string(m.HttpEndpoint), ipv6: string(m.HttpProtocolIpv6), tokens: string(m.HttpTokens), tags: string(m.InstanceMetadataTags),
			hopLimit: m.HttpPutResponseHopLimit,
		}
	}
	if s := d.CapacityReservationSpecification; s != nil {
		var err error
		if l.reservation, err = newReservationUse(s.CapacityReservationPreference, s.CapacityReservationTarget); err != nil {
			return l, err
		}
	}
	if m := d.InstanceMarketOptions; m != nil {
		if m.MarketType != ec2types.MarketTypeSpot {
			return l, notSimulated("the market type %s", m.MarketType)
		}
		l.spot = true
	}
	for _, n := range d.NetworkInterfaces {
		l.interfaces = append(l.interfaces, launchInterface{
			card: awssdk.ToInt32(n.NetworkCardIndex), index: awssdk.ToInt32(n.DeviceIndex), subnetID: awssdk.ToString(n.SubnetId),
			groups: n.Groups, description: awssdk.ToString(n.Description), kind: awssdk.ToString(n.InterfaceType),
			deleteOnTermination: n.DeleteOnTermination, public: n.AssociatePublicIpAddress,
			addresses: addressParameters{
				address: n.PrivateIpAddress, addresses: n.PrivateIpAddresses, count: n.SecondaryPrivateIpAddressCount,
				prefixCount: n.Ipv4PrefixCount, prefixes: prefixTexts(n.Ipv4Prefixes),
			},
		})
	}
	for _, spec := range d.TagSpecifications {
		tags, err := tagMap(spec.Tags)
		if err != nil {
			return l, err
		}
		switch spec.ResourceType {
		case ec2types.ResourceTypeInstance:
			l.instanceTags = tags
		case ec2types.ResourceTypeNetworkInterface:
			l.interfaceTags = tags
		}
	}
	return l, nil
}
