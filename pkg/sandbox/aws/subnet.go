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

type subnet struct {
	id, zone      string
	vpc           *vpc
	space         *space
	table         *routeTable // nil: the VPC's main table
	association   string      // of table
	publicAddress bool        // MapPublicIpOnLaunch
	tags          map[string]string
	visibleAt     time.Time
}

// visible tells whether a new subnet is known to all of EC2 by now.
func (s *subnet) visible() bool { return !time.Now().Before(s.visibleAt) }

// pickSubnets returns the subnets with these ids, or all that are known when none is given.
func (c *Cloud) pickSubnets(ids []string) ([]*subnet, error) {
	subnets, err := c.subnets.pick(kindSubnet, ids)
	if err != nil {
		return nil, err
	}
	unknown := slices.DeleteFunc(slices.Clone(subnets), (*subnet).visible)
	if len(ids) > 0 && len(unknown) > 0 {
		return nil, kindSubnet.missing(unknown[0].id)
	}
	return slices.DeleteFunc(slices.Clone(subnets), func(s *subnet) bool { return !s.visible() }), nil
}

// subnet returns the one that a required parameter names.
func (c *Cloud) subnet(parameter string, id *string) (*subnet, error) {
	s, err := c.subnets.one(kindSubnet, parameter, id)
	if err == nil && !s.visible() {
		return nil, kindSubnet.missing(s.id)
	}
	return s, err
}

func (s *subnet) routeTable() *routeTable {
	if s.table != nil {
		return s.table
	}
	return s.vpc.mainTable
}

func (r *request) createSubnet(in *ec2.CreateSubnetInput) (*ec2.CreateSubnetOutput, error) {
	v, err := r.vpcs.one(kindVPC, "vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	cidr, err := parseBlock(in.CidrBlock, "InvalidSubnet.Range")
	if err != nil {
		return nil, err
	}
	inside := func(block netip.Prefix) bool { return block.Contains(cidr.Addr()) && block.Bits() <= cidr.Bits() }
	if !slices.ContainsFunc(v.associated(), inside) {
		return nil, clientError("InvalidSubnet.Range", "The CIDR '%s' is invalid.", cidr)
	}
	for _, other := range r.subnets.all() {
		if other.vpc == v && other.space.cidr.Overlaps(cidr) {
			return nil, clientError("InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet", cidr)
		}
	}
	zone, err := r.zoneOf(in.AvailabilityZone, in.AvailabilityZoneId)
	if err != nil {
		return nil, err
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeSubnet)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	s := &subnet{id: r.ids.next("subnet"), zone: zone, vpc: v, space: newSpace(cidr), tags: tags, visibleAt: r.now.Add(r.latency.Propagation.draw(r.random))}
	r.subnets.add(s.id, s)
	description := r.describeSubnet(s)
	return &ec2.CreateSubnetOutput{Subnet: &description}, nil
}

// zoneOf reads a zone given by name or by id; without either it is the Region's first.
func (r *request) zoneOf(name, id *string) (string, error) {
	switch {
	case name != nil && id != nil:
		return "", clientError("InvalidParameterCombination", "The parameters availabilityZone and availabilityZoneId may not be used together")
	case name != nil:
		if !r.hasZone(*name) {
			return "", clientError("InvalidParameterValue",
				"Value (%s) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: %s.",
				*name, strings.Join(r.zones(), ", "))
		}
		return *name, nil
	case id != nil:
		zone, ok := r.zoneByID(*id)
		if !ok {
			return "", invalidValue(*id, "availabilityZoneId")
		}
		return zone, nil
	}
	return r.zones()[0], nil
}

func (r *request) modifySubnetAttribute(in *ec2.ModifySubnetAttributeInput) (*ec2.ModifySubnetAttributeOutput, error) {
	s, err := r.subnet("subnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	if in.MapPublicIpOnLaunch == nil {
		return nil, missingParameter("mapPublicIpOnLaunch")
	}
	s.publicAddress = awssdk.ToBool(in.MapPublicIpOnLaunch.Value)
	return &ec2.ModifySubnetAttributeOutput{}, nil
}

func (r *request) describeSubnets(in *ec2.DescribeSubnetsInput) (*ec2.DescribeSubnetsOutput, error) {
	subnets, err := r.pickSubnets(in.SubnetIds)
	if err != nil {
		return nil, err
	}
	described, next, err := filterPage(subnets, in.Filters, r.subnetAttributes, r.describeSubnet, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeSubnetsOutput{Subnets: described, NextToken: next}, err
}

func (r *request) subnetAttributes(s *subnet) attributes {
	return attributes(func(name string) ([]string, bool) {
		switch name {
		case "subnet-id":
			return []string{s.id}, true
		case "vpc-id":
			return []string{s.vpc.id}, true
		case "availability-zone", "availabilityZone":
			return []string{s.zone}, true
		case "availability-zone-id", "availabilityZoneId":
			return []string{r.zoneID(s.zone)}, true
		case "cidr", "cidrBlock", "cidr-block":
			return []string{s.space.cidr.String()}, true
		case "state":
			return []string{"available"}, true
		case "available-ip-address-count":
			return []string{strconv.Itoa(s.space.free())}, true
		case "map-public-ip-on-launch":
			return []string{strconv.FormatBool(s.publicAddress)}, true
		case "owner-id":
			return []string{r.account}, true
		}
		return nil, false
	}).with(s.tags)
}

func (r *request) describeSubnet(s *subnet) ec2types.Subnet {
	return ec2types.Subnet{
		SubnetId: &s.id, VpcId: &s.vpc.id, CidrBlock: awssdk.String(s.space.cidr.String()), OwnerId: &r.account,
		AvailabilityZone: &s.zone, AvailabilityZoneId: awssdk.String(r.zoneID(s.zone)), State: ec2types.SubnetStateAvailable,
		// Whether an unused CIDR reservation lowers the count is not documented; here it does not.
		AvailableIpAddressCount: awssdk.Int32(int32(s.space.free())),
		MapPublicIpOnLaunch:     awssdk.Bool(s.publicAddress), AssignIpv6AddressOnCreation: awssdk.Bool(false), DefaultForAz: awssdk.Bool(false),
		SubnetArn: awssdk.String(r.arn("ec2", "subnet/"+s.id)), Tags: tagList(s.tags),
	}
}

func (r *request) createReservation(in *ec2.CreateSubnetCidrReservationInput) (*ec2.CreateSubnetCidrReservationOutput, error) {
	s, err := r.subnet("subnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	cidr, err := netip.ParsePrefix(awssdk.ToString(in.Cidr))
	if err != nil || !cidr.Addr().Is4() {
		return nil, invalidValue(awssdk.ToString(in.Cidr), "cidr")
	}
	cidr = cidr.Masked()
	if !s.space.cidr.Contains(cidr.Addr()) || cidr.Bits() < s.space.cidr.Bits() {
		return nil, clientError("InvalidParameterValue", "The CIDR '%s' is not within the subnet's CIDR '%s'", cidr, s.space.cidr)
	}
	if s.space.reservation(cidr) != nil {
		return nil, clientError("InvalidSubnetCidrReservation.Conflict", "The CIDR '%s' overlaps with another reservation", cidr)
	}
	explicit := in.ReservationType == ec2types.SubnetCidrReservationTypeExplicit
	if !explicit && in.ReservationType != ec2types.SubnetCidrReservationTypePrefix {
		return nil, invalidValue(string(in.ReservationType), "reservationType")
	}
	if !explicit && cidr.Bits() > prefixBits {
		return nil, clientError("InvalidParameterValue", "A reservation of type prefix must be a /28 or larger")
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeSubnetCidrReservation)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	s.space.reservations = append(s.space.reservations, cidrReservation{
		id: r.ids.next("scr"), description: awssdk.ToString(in.Description), cidr: cidr, explicit: explicit, tags: tags,
	})
	description := r.describeReservation(s, s.space.reservations[len(s.space.reservations)-1])
	return &ec2.CreateSubnetCidrReservationOutput{SubnetCidrReservation: &description}, nil
}

// deleteReservation takes no address away: those given from the reservation stay.
func (r *request) deleteReservation(in *ec2.DeleteSubnetCidrReservationInput) (*ec2.DeleteSubnetCidrReservationOutput, error) {
	id := awssdk.ToString(in.SubnetCidrReservationId)
	for _, s := range r.subnets.all() {
		for i, reservation := range s.space.reservations {
			if reservation.id != id {
				continue
			}
			if err := r.act(); err != nil {
				return nil, err
			}
			s.space.reservations = slices.Delete(s.space.reservations, i, i+1)
			description := r.describeReservation(s, reservation)
			return &ec2.DeleteSubnetCidrReservationOutput{DeletedSubnetCidrReservation: &description}, nil
		}
	}
	return nil, kindReservation.missing(id)
}

func (r *request) getReservations(in *ec2.GetSubnetCidrReservationsInput) (*ec2.GetSubnetCidrReservationsOutput, error) {
	s, err := r.subnet("subnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	of := func(reservation cidrReservation) attributes {
		return attributes(func(name string) ([]string, bool) {
			switch name {
			case "subnet-id":
				return []string{s.id}, true
			case "reservationType":
				return []string{string(r.describeReservation(s, reservation).ReservationType)}, true
			}
			return nil, false
		}).with(reservation.tags)
	}
	describe := func(reservation cidrReservation) ec2types.SubnetCidrReservation {
		return r.describeReservation(s, reservation)
	}
	described, next, err := filterPage(s.space.reservations, in.Filters, of, describe, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.GetSubnetCidrReservationsOutput{SubnetIpv4CidrReservations: described, NextToken: next}, err
}

func (r *request) describeReservation(s *subnet, reservation cidrReservation) ec2types.SubnetCidrReservation {
	kind := ec2types.SubnetCidrReservationTypePrefix
	if reservation.explicit {
		kind = ec2types.SubnetCidrReservationTypeExplicit
	}
	return ec2types.SubnetCidrReservation{
		SubnetCidrReservationId: awssdk.String(reservation.id), SubnetId: &s.id, Cidr: awssdk.String(reservation.cidr.String()),
		ReservationType: kind, OwnerId: &r.account, Description: &reservation.description, Tags: tagList(reservation.tags),
	}
}
