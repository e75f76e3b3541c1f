// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

type instance struct {
	id, reservation string
	info            ec2types.InstanceTypeInfo
	image           *image
	state           ec2types.InstanceStateName
	reason          stateReason
	hungSince       time.Time // zero: it does not hang
	subnet          *subnet   // of the primary interface
	primary         *networkInterface
	interfaces      []*networkInterface
	launchTime      time.Time
	order           int
	index           int // in its launch
	profile         *instanceProfile
	userData        []byte
	spotRequest     string // "" on demand
	tenancy         ec2types.Tenancy
	metadata        metadataOptions
	group           *placementGroup
	partition       int32
	capacity        *capacityReservation // that it runs in
	wasPublic       bool                 // before it was stopped
	interruption    time.Time            // when the spot instance is taken back; zero: not
	rebalance       time.Time            // when a rebalance was recommended; zero: never
	events          []scheduledEvent
	tags            map[string]string
	visibleAt       time.Time
	countsUntil     time.Time // a terminated instance counts against quotas until then
	// What the last state of its network was: a terminated instance has no interfaces any more.
	privateIP netip.Addr
}

// stateReason is why an instance stopped or ended; zero for one that did not.
type stateReason struct{ transition, code, message string }

func (i *instance) geometry() geometry { return geometryOf(i.info) }

func (i *instance) interfaceAt(card, index int32) *networkInterface {
	for _, n := range i.interfaces {
		if n.attachment.card == card && n.attachment.index == index {
			return n
		}
	}
	return nil
}

func (i *instance) interfacesOn(card int32) int {
	count := 0
	for _, n := range i.interfaces {
		if n.attachment.card == card {
			count++
		}
	}
	return count
}

func (i *instance) drop(n *networkInterface) {
	i.interfaces = slices.DeleteFunc(i.interfaces, func(other *networkInterface) bool { return other == n })
}

func (i *instance) lifecycle() string {
	if i.spotRequest != "" {
		return lifecycleSpot
	}
	return lifecycleOnDemand
}

// privateDNS is the IP-based host name of an address; us-east-1 has a domain of its own.
func (c *Cloud) privateDNS(addr netip.Addr) string {
	domain := c.region + ".compute.internal"
	if c.region == "us-east-1" {
		domain = "ec2.internal"
	}
	return "ip-" + strings.ReplaceAll(addr.String(), ".", "-") + "." + domain
}

// known returns the instances with these ids, or all. New ones are not known everywhere at once, old terminated ones are
// forgotten.
func (r *request) known(ids []string) ([]*instance, error) {
	if len(ids) == 0 {
		return slices.DeleteFunc(r.instances.all(), func(i *instance) bool { return !r.isKnown(i) }), nil
	}
	var there []*instance
	var missing []string
	for _, id := range ids {
		if i := r.instances.get(id); r.isKnown(i) {
			there = append(there, i)
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return nil, kindInstance.missing(missing...)
	}
	return there, nil
}

func (r *request) isKnown(i *instance) bool {
	return i != nil && r.visible(i.visibleAt)
}

func (r *request) describeInstances(in *ec2.DescribeInstancesInput) (*ec2.DescribeInstancesOutput, error) {
	if len(in.InstanceIds) > 0 && in.MaxResults != nil {
		return nil, clientError("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
	}
	instances, err := r.known(in.InstanceIds)
	if err != nil {
		return nil, err
	}
	whole := func(i *instance) *instance { return i }
	kept, next, err := filterPage(instances, in.Filters, r.instanceAttributes, whole, in.NextToken, in.MaxResults, 5, 1000)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeInstancesOutput{NextToken: next, Reservations: []ec2types.Reservation{}}
	for _, i := range kept {
		last := len(out.Reservations) - 1
		if last < 0 || *out.Reservations[last].ReservationId != i.reservation {
			out.Reservations = append(out.Reservations, ec2types.Reservation{ReservationId: &i.reservation, OwnerId: &r.account})
			last++
		}
		out.Reservations[last].Instances = append(out.Reservations[last].Instances, r.describeInstance(i))
	}
	return out, nil
}

func (r *request) instanceAttributes(i *instance) attributes {
	return attributes(func(name string) (values []string, ok bool) {
		switch name {
		case "instance-id":
			return []string{i.id}, true
		case "instance-state-name":
			return []string{string(i.state)}, true
		case "instance-state-code":
			return []string{strconv.Itoa(int(stateCode(i.state)))}, true
		case "instance-type":
			return []string{string(i.info.InstanceType)}, true
		case "instance-lifecycle":
			return []string{i.lifecycle()}, true
		case "image-id":
			return []string{i.image.id}, true
		case "availability-zone":
			return []string{i.subnet.zone}, true
		case "subnet-id":
			return []string{i.subnet.id}, true
		case "vpc-id":
			return []string{i.subnet.vpc.id}, true
		case "reservation-id":
			return []string{i.reservation}, true
		case "private-dns-name":
			return []string{r.privateDNS(i.privateIP)}, true
		case "private-ip-address":
			return []string{i.privateIP.String()}, true
		case "iam-instance-profile.arn":
			if i.profile != nil {
				values = append(values, i.profile.arn)
			}
			return values, true
		}
		if values, ok := i.networkAttribute(name); ok {
			return values, true
		}
		return r.launchAttribute(i, name)
	}).with(i.tags)
}

// networkAttribute is a filter on the instance's interfaces.
func (i *instance) networkAttribute(name string) (values []string, ok bool) {
	switch name {
	case "network-interface.addresses.private-ip-address":
		for _, n := range i.interfaces {
			values = append(values, n.addressTexts()...)
		}
		return values, true
	case "network-interface.subnet-id":
		for _, n := range i.interfaces {
			values = append(values, n.subnet.id)
		}
		return values, true
	case "network-interface.network-interface-id":
		for _, n := range i.interfaces {
			values = append(values, n.id)
		}
		return values, true
	case "instance.group-id", "network-interface.group-id":
		for _, n := range i.interfaces {
			values = append(values, groupIDs(n.groups)...)
		}
		return values, true
	}
	return nil, false
}

// launchAttribute is a filter on what the launch asked for or got.
func (r *request) launchAttribute(i *instance, name string) (values []string, ok bool) {
	switch name {
	case "availability-zone-id":
		return []string{r.zoneID(i.subnet.zone)}, true
	case "architecture":
		return []string{string(i.image.architecture)}, true
	case "tenancy":
		return []string{string(i.tenancy)}, true
	case "owner-id":
		return []string{r.account}, true
	case "launch-index":
		return []string{strconv.Itoa(i.index)}, true
	case "launch-time":
		return []string{i.launchTime.UTC().Format(timestampFormat)}, true
	case "spot-instance-request-id":
		if i.spotRequest != "" {
			values = append(values, i.spotRequest)
		}
		return values, true
	case "capacity-reservation-id":
		if i.capacity != nil {
			values = append(values, i.capacity.id)
		}
		return values, true
	case "placement-group-name":
		if i.group != nil {
			values = append(values, i.group.name)
		}
		return values, true
	}
	return nil, false
}

func stateCode(name ec2types.InstanceStateName) int32 {
	return map[ec2types.InstanceStateName]int32{
		ec2types.InstanceStateNamePending: 0, ec2types.InstanceStateNameRunning: 16,
		ec2types.InstanceStateNameShuttingDown: 32, ec2types.InstanceStateNameTerminated: 48,
		ec2types.InstanceStateNameStopping: 64, ec2types.InstanceStateNameStopped: 80,
	}[name]
}

func instanceState(name ec2types.InstanceStateName) *ec2types.InstanceState {
	return &ec2types.InstanceState{Name: name, Code: awssdk.Int32(stateCode(name))}
}

func (r *request) describeInstance(i *instance) ec2types.Instance {
	d := ec2types.Instance{
		InstanceId: &i.id, InstanceType: i.info.InstanceType, ImageId: &i.image.id, State: instanceState(i.state), LaunchTime: &i.launchTime,
		AmiLaunchIndex: awssdk.Int32(int32(i.index)), Architecture: i.image.architecture, Hypervisor: ec2types.HypervisorTypeXen,
		VirtualizationType: ec2types.VirtualizationTypeHvm, RootDeviceType: ec2types.DeviceTypeEbs, RootDeviceName: awssdk.String("/dev/xvda"),
		EnaSupport: awssdk.Bool(true), EbsOptimized: awssdk.Bool(false), Monitoring: &ec2types.Monitoring{State: ec2types.MonitoringStateDisabled},
		Placement: &ec2types.Placement{
			AvailabilityZone: &i.subnet.zone, AvailabilityZoneId: awssdk.String(r.zoneID(i.subnet.zone)), Tenancy: i.tenancy, GroupName: awssdk.String(""),
		},
		MetadataOptions: describeMetadataOptions(i.metadata),
		CapacityReservationSpecification: &ec2types.CapacityReservationSpecificationResponse{
			CapacityReservationPreference: ec2types.CapacityReservationPreferenceOpen,
		},
		Tags: tagList(i.tags),
	}
	if i.spotRequest != "" {
		d.InstanceLifecycle, d.SpotInstanceRequestId = ec2types.InstanceLifecycleTypeSpot, &i.spotRequest
	}
	if i.profile != nil {
		d.IamInstanceProfile = &ec2types.IamInstanceProfile{Arn: &i.profile.arn, Id: &i.profile.id}
	}
	if i.reason.code != "" {
		d.StateTransitionReason = &i.reason.transition
		d.StateReason = &ec2types.StateReason{Code: &i.reason.code, Message: &i.reason.message}
	}
	if i.group != nil {
		d.Placement.GroupId, d.Placement.GroupName = &i.group.id, &i.group.name
		if i.partition != 0 {
			d.Placement.PartitionNumber = &i.partition
		}
	}
	if i.capacity != nil {
		d.CapacityReservationId = &i.capacity.id
	}
	if i.state == ec2types.InstanceStateNameTerminated {
		return d // without a network
	}
	d.SubnetId, d.VpcId = &i.subnet.id, &i.subnet.vpc.id
	d.PrivateIpAddress, d.PrivateDnsName = awssdk.String(i.privateIP.String()), awssdk.String(r.privateDNS(i.privateIP))
	d.SourceDestCheck, d.SecurityGroups = awssdk.Bool(i.primary.sourceDestCheck), groupIdentifiers(i.primary.groups)
	if i.primary.public.IsValid() {
		d.PublicIpAddress = awssdk.String(i.primary.public.String())
	}
	for _, n := range i.interfaces {
		d.NetworkInterfaces = append(d.NetworkInterfaces, r.describeInstanceInterface(n))
	}
	return d
}

func (r *request) describeInstanceInterface(n *networkInterface) ec2types.InstanceNetworkInterface {
	a := n.attachment
	d := ec2types.InstanceNetworkInterface{
		NetworkInterfaceId: &n.id, SubnetId: &n.subnet.id, VpcId: &n.subnet.vpc.id, OwnerId: &r.account, MacAddress: awssdk.String(n.mac.String()),
		Description: &n.description, Groups: groupIdentifiers(n.groups), InterfaceType: awssdk.String(string(n.kind)), Status: n.status(),
		PrivateIpAddress: awssdk.String(n.primary.String()), PrivateDnsName: awssdk.String(r.privateDNS(n.primary)), SourceDestCheck: awssdk.Bool(n.sourceDestCheck),
		Attachment: &ec2types.InstanceNetworkInterfaceAttachment{
			AttachmentId: &a.id, AttachTime: &a.since, DeleteOnTermination: awssdk.Bool(a.deleteOnTermination), DeviceIndex: awssdk.Int32(a.index),
			NetworkCardIndex: awssdk.Int32(a.card), Status: a.status,
		},
	}
	for i, text := range n.addressTexts() {
		d.PrivateIpAddresses = append(d.PrivateIpAddresses, ec2types.InstancePrivateIpAddress{
			Primary: awssdk.Bool(i == 0), PrivateIpAddress: awssdk.String(text),
		})
	}
	for _, p := range n.prefixes {
		d.Ipv4Prefixes = append(d.Ipv4Prefixes, ec2types.InstanceIpv4Prefix{Ipv4Prefix: awssdk.String(p.String())})
	}
	return d
}

// describeInstanceStatus knows reachability: checks are initializing while an instance boots, then ok, and an instance that hangs
// fails that of the instance, not that of the system below it.
func (r *request) describeInstanceStatus(in *ec2.DescribeInstanceStatusInput) (*ec2.DescribeInstanceStatusOutput, error) {
	if len(in.InstanceIds) > 0 && in.MaxResults != nil {
		return nil, clientError("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
	}
	instances, err := r.known(in.InstanceIds)
	if err != nil {
		return nil, err
	}
	if !awssdk.ToBool(in.IncludeAllInstances) {
		instances = slices.DeleteFunc(instances, func(i *instance) bool { return i.state != ec2types.InstanceStateNameRunning })
	}
	status := func(i *instance) ec2types.SummaryStatus {
		switch i.state {
		case ec2types.InstanceStateNameRunning:
			return ec2types.SummaryStatusOk
		case ec2types.InstanceStateNamePending:
			return ec2types.SummaryStatusInitializing
		}
		return ec2types.SummaryStatusNotApplicable
	}
	own := func(i *instance) ec2types.InstanceStatusSummary {
		summary := ec2types.InstanceStatusSummary{Status: status(i)}
		detail := ec2types.InstanceStatusDetails{Name: ec2types.StatusNameReachability, Status: reachability[summary.Status]}
		if i.state == ec2types.InstanceStateNameRunning && !i.hungSince.IsZero() {
			summary.Status = ec2types.SummaryStatusImpaired
			detail.Status, detail.ImpairedSince = ec2types.StatusTypeFailed, &i.hungSince
		}
		if detail.Status != "" {
			summary.Details = []ec2types.InstanceStatusDetails{detail}
		}
		return summary
	}
	of := func(i *instance) attributes {
		return func(name string) (values []string, ok bool) {
			switch name {
			case "instance-status.status":
				return []string{string(own(i).Status)}, true
			case "instance-status.reachability":
				for _, detail := range own(i).Details {
					values = append(values, string(detail.Status))
				}
				return values, true
			case "system-status.status", "attached-ebs-status.status":
				return []string{string(status(i))}, true
			case "event.code":
				for _, e := range i.events {
					values = append(values, string(e.code))
				}
				return values, true
			case "availability-zone":
				return []string{i.subnet.zone}, true
			case "instance-state-name":
				return []string{string(i.state)}, true
			}
			return nil, false
		}
	}
	describe := func(i *instance) ec2types.InstanceStatus {
		instance := own(i)
		system := &ec2types.InstanceStatusSummary{Status: status(i)}
		if r := reachability[system.Status]; r != "" {
			system.Details = []ec2types.InstanceStatusDetails{{Name: ec2types.StatusNameReachability, Status: r}}
		}
		d := ec2types.InstanceStatus{
			InstanceId: &i.id, AvailabilityZone: &i.subnet.zone, InstanceState: instanceState(i.state), InstanceStatus: &instance, SystemStatus: system,
		}
		for _, e := range i.events {
			d.Events = append(d.Events, ec2types.InstanceStatusEvent{
				InstanceEventId: &e.id, Code: e.code, Description: &e.description, NotBefore: &e.notBefore,
			})
		}
		return d
	}
	described, next, err := filterPage(instances, in.Filters, of, describe, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeInstanceStatusOutput{InstanceStatuses: described, NextToken: next}, err
}

// reachability is the one check that there is, by the status of which it is the reason.
var reachability = map[ec2types.SummaryStatus]ec2types.StatusType{
	ec2types.SummaryStatusOk: ec2types.StatusTypePassed, ec2types.SummaryStatusInitializing: ec2types.StatusTypeInitializing,
}

// stillThere refuses a client token whose instances are terminated.
func (c *Cloud) stillThere(output any) error {
	run, ok := output.(*ec2.RunInstancesOutput)
	if !ok {
		return nil
	}
	for _, launched := range run.Instances {
		if i := c.instances.get(*launched.InstanceId); i == nil || i.state == ec2types.InstanceStateNameTerminated {
			return clientError("IdempotentInstanceTerminated",
				"The client token you have provided is associated with a terminated instance. Please use a different client token.")
		}
	}
	return nil
}
