// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func (r *request) runInstances(in *ec2.RunInstancesInput) (*ec2.RunInstancesOutput, error) {
	low, high := int(awssdk.ToInt32(in.MinCount)), int(awssdk.ToInt32(in.MaxCount))
	if low < 1 || high < low {
		return nil, clientError("InvalidParameterValue", "MinCount (%d) and MaxCount (%d) must be at least 1, and MaxCount not below MinCount", low, high)
	}
	l, err := r.runLaunch(in)
	if err != nil {
		return nil, err
	}
	p, err := r.plan(l)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	reservation := r.ids.implicit("r")
	var started []*instance
	for len(started) < high {
		i, err := r.start(p, reservation, len(started))
		if err == nil {
			started = append(started, i)
			continue
		}
		if len(started) >= low {
			break
		}
		for _, i := range started {
			r.undo(i, p)
		}
		return nil, err
	}
	out := &ec2.RunInstancesOutput{ReservationId: &reservation, OwnerId: &r.account}
	for _, i := range started {
		r.boot(i)
		out.Instances = append(out.Instances, r.describeInstance(i))
	}
	return out, nil
}

// undo takes back an instance that no one has heard of.
func (r *request) undo(i *instance, p *launchPlan) {
	for _, n := range i.interfaces {
		r.free(n)
	}
	r.returnRoom(p, i.capacity)
	i.state = ec2types.InstanceStateNameTerminated // no event: it never was
	r.instances.remove(i.id)
}

func (r *request) runLaunch(in *ec2.RunInstancesInput) (launch, error) {
	var l launch
	if in.LaunchTemplate != nil {
		t, err := r.template(in.LaunchTemplate.LaunchTemplateId, in.LaunchTemplate.LaunchTemplateName)
		if err != nil {
			return l, err
		}
		v, err := t.version(awssdk.ToString(in.LaunchTemplate.Version))
		if err != nil {
			return l, err
		}
		if l, err = t.launch(v); err != nil {
			return l, err
		}
	}
	override(&l.imageID, awssdk.ToString(in.ImageId))
	override(&l.instanceType, string(in.InstanceType))
	override(&l.userData, awssdk.ToString(in.UserData))
	override(&l.subnetID, awssdk.ToString(in.SubnetId))
	if in.IamInstanceProfile != nil {
		l.profileName, l.profileARN = awssdk.ToString(in.IamInstanceProfile.Name), awssdk.ToString(in.IamInstanceProfile.Arn)
	}
	if in.Placement != nil {
		override(&l.zone, awssdk.ToString(in.Placement.AvailabilityZone))
		override(&l.tenancy, in.Placement.Tenancy)
		if in.Placement.GroupId != nil || in.Placement.GroupName != nil {
			l.placement = placement{}
		}
		override(&l.placement.groupID, awssdk.ToString(in.Placement.GroupId))
		override(&l.placement.groupName, awssdk.ToString(in.Placement.GroupName))
		override(&l.placement.partition, awssdk.ToInt32(in.Placement.PartitionNumber))
	}
	if m := in.MetadataOptions; m != nil {
		override(&l.metadata.endpoint, string(m.HttpEndpoint))
		override(&l.metadata.ipv6, string(m.HttpProtocolIpv6))
		override(&l.metadata.tokens, string(m.HttpTokens))
		override(&l.metadata.tags, string(m.InstanceMetadataTags))
		override(&l.metadata.hopLimit, m.HttpPutResponseHopLimit)
	}
	if s := in.CapacityReservationSpecification; s != nil {
		var err error
		if l.reservation, err = newReservationUse(s.CapacityReservationPreference, s.CapacityReservationTarget); err != nil {
			return l, err
		}
	}
	if in.InstanceMarketOptions != nil {
		if in.InstanceMarketOptions.MarketType != ec2types.MarketTypeSpot {
			return l, notSimulated("the market type %s", in.InstanceMarketOptions.MarketType)
		}
		l.spot = true
	}
	if in.SecurityGroupIds != nil {
		l.groups = in.SecurityGroupIds
	}
	for _, spec := range in.NetworkInterfaces {
		l.overrideInterface(spec)
	}
	instanceTags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeInstance, launchTags...)
	if err != nil {
		return l, err
	}
	interfaceTags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeNetworkInterface, launchTags...)
	if err != nil {
		return l, err
	}
	l.instanceTags, l.interfaceTags = merge(l.instanceTags, instanceTags), merge(l.interfaceTags, interfaceTags)
	return l, nil
}

func override[T comparable](value *T, with T) {
	var none T
	if with != none {
		*value = with
	}
}

// overrideInterface lays an interface of a request over the template's interface of the same device index, or adds it.
func (l *launch) overrideInterface(spec ec2types.InstanceNetworkInterfaceSpecification) {
	card, index := awssdk.ToInt32(spec.NetworkCardIndex), awssdk.ToInt32(spec.DeviceIndex)
	at := slices.IndexFunc(l.interfaces, func(li launchInterface) bool { return li.card == card && li.index == index })
	if at < 0 {
		l.interfaces = append(l.interfaces, launchInterface{card: card, index: index})
		at = len(l.interfaces) - 1
	}
	li := &l.interfaces[at]
	override(&li.subnetID, awssdk.ToString(spec.SubnetId))
	override(&li.description, awssdk.ToString(spec.Description))
	override(&li.kind, awssdk.ToString(spec.InterfaceType))
	override(&li.deleteOnTermination, spec.DeleteOnTermination)
	override(&li.public, spec.AssociatePublicIpAddress)
	override(&li.addresses.address, spec.PrivateIpAddress)
	override(&li.addresses.count, spec.SecondaryPrivateIpAddressCount)
	override(&li.addresses.prefixCount, spec.Ipv4PrefixCount)
	if spec.Groups != nil {
		li.groups = spec.Groups
	}
	if spec.PrivateIpAddresses != nil {
		li.addresses.addresses = spec.PrivateIpAddresses
	}
	if spec.Ipv4Prefixes != nil {
		li.addresses.prefixes = prefixTexts(spec.Ipv4Prefixes)
	}
}
