// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// capacityReservation keeps room for on-demand instances of a type in a zone.
type capacityReservation struct {
	id, instanceType, zone string
	total, used            int
	targeted               bool // only launches that name it use it
	state                  ec2types.CapacityReservationState
	created                time.Time
	end                    *time.Time // nil: until it is cancelled
	tags                   map[string]string
}

func (c *capacityReservation) pool() pool {
	return pool{instanceType: c.instanceType, zone: c.zone, lifecycle: lifecycleOnDemand}
}

// gives tells whether a reservation has room for one more instance.
func (c *capacityReservation) gives() bool {
	return c.state == ec2types.CapacityReservationStateActive && c.used < c.total
}

// reservationUse is what a launch says of capacity reservations.
type reservationUse struct {
	preference ec2types.CapacityReservationPreference
	target     string
}

func newReservationUse(preference ec2types.CapacityReservationPreference, target *ec2types.CapacityReservationTarget) (reservationUse, error) {
	use := reservationUse{preference: preference}
	if target == nil {
		return use, nil
	}
	if target.CapacityReservationResourceGroupArn != nil {
		return use, notSimulated("groups of capacity reservations")
	}
	use.target = awssdk.ToString(target.CapacityReservationId)
	if preference != "" && preference != ec2types.CapacityReservationPreferenceCapacityReservationsOnly {
		return use, clientError("InvalidParameterCombination", "A capacity reservation target cannot be used with the preference '%s'", preference)
	}
	return use, nil
}

// checkReservation checks the reservation that a launch names. The codes for one of other attributes, or not active, are of our own.
func (r *request) checkReservation(p *launchPlan) error {
	if p.reservation.target == "" {
		return nil
	}
	c := r.reservations.get(p.reservation.target)
	switch {
	case c == nil:
		return kindCapacity.missing(p.reservation.target)
	case p.spot:
		return clientError("InvalidParameterCombination", "Spot instances cannot run in a capacity reservation")
	case c.pool() != p.pool():
		return clientError("InvalidParameterCombination", "The capacity reservation %s is for %s in %s, not for %s in %s",
			c.id, c.instanceType, c.zone, p.info.InstanceType, p.zone)
	case c.state != ec2types.CapacityReservationStateActive:
		return clientError("InvalidCapacityReservationState", "The capacity reservation %s is '%s', not 'active'", c.id, c.state)
	}
	return nil
}

var errReservationFull = clientError("ReservationCapacityExceeded",
	"The requested reservation does not have sufficient compatible and available capacity for this request.")

// reservationFor returns the reservation that an instance of the plan runs in, nil for none.
func (r *request) reservationFor(p *launchPlan) (*capacityReservation, error) {
	switch {
	case p.reservation.target != "":
		if c := r.reservations.get(p.reservation.target); c != nil && c.gives() {
			return c, nil
		}
		return nil, errReservationFull
	case p.spot || p.reservation.preference == ec2types.CapacityReservationPreferenceNone:
		return nil, nil
	}
	for _, c := range r.reservations.all() {
		if !c.targeted && c.pool() == p.pool() && c.gives() {
			return c, nil
		}
	}
	if p.reservation.preference == ec2types.CapacityReservationPreferenceCapacityReservationsOnly {
		return nil, errReservationFull
	}
	return nil, nil
}

func (i *instance) leaveReservation() {
	if i.capacity != nil {
		i.capacity.used--
		i.capacity = nil
	}
}

func (r *request) createCapacityReservation(in *ec2.CreateCapacityReservationInput) (*ec2.CreateCapacityReservationOutput, error) {
	c := &capacityReservation{
		instanceType: awssdk.ToString(in.InstanceType), total: int(awssdk.ToInt32(in.InstanceCount)),
		state: ec2types.CapacityReservationStateActive, created: r.now.UTC().Truncate(time.Second),
	}
	if err := r.readReservation(in, c); err != nil {
		return nil, err
	}
	if letters := instancetypes.ZoneLetters(c.instanceType); !strings.Contains(letters, c.zone[len(c.zone)-1:]) {
		return nil, r.errNotOffered(c.instanceType, c.zone)
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeCapacityReservation)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	if err := r.takeCapacity(c.pool(), c.total); err != nil {
		return nil, err
	}
	c.id, c.tags = r.ids.next("cr"), tags
	r.reservations.add(c.id, c)
	if c.end != nil {
		r.after(Span{Min: c.end.Sub(r.now)}, func() { r.endReservation(c, ec2types.CapacityReservationStateExpired) })
	}
	description := r.describeCapacityReservation(c)
	return &ec2.CreateCapacityReservationOutput{CapacityReservation: &description}, nil
}

func (r *request) readReservation(in *ec2.CreateCapacityReservationInput, c *capacityReservation) error {
	switch in.InstancePlatform {
	case "":
		return missingParameter("instancePlatform")
	case ec2types.CapacityReservationInstancePlatformLinuxUnix:
	default:
		return notSimulated("the platform %s", in.InstancePlatform)
	}
	if c.instanceType == "" {
		return missingParameter("instanceType")
	}
	if _, ok := instancetypes.Info(c.instanceType); !ok {
		return clientError("InvalidParameterValue", "Invalid value '%s' for InstanceType.", c.instanceType)
	}
	if c.total < 1 {
		return invalidValue("0", "instanceCount")
	}
	if in.AvailabilityZone == nil && in.AvailabilityZoneId == nil {
		return missingParameter("availabilityZone")
	}
	if in.Tenancy != "" && in.Tenancy != ec2types.CapacityReservationTenancyDefault {
		return notSimulated("capacity reservations of tenancy %s", in.Tenancy)
	}
	switch in.InstanceMatchCriteria {
	case "", ec2types.InstanceMatchCriteriaOpen:
	case ec2types.InstanceMatchCriteriaTargeted:
		c.targeted = true
	default:
		return invalidValue(string(in.InstanceMatchCriteria), "instanceMatchCriteria")
	}
	limited := in.EndDateType == ec2types.EndDateTypeLimited
	switch {
	case limited != (in.EndDate != nil):
		return clientError("InvalidParameterCombination", "An end date goes with the end date type 'limited', and only with it")
	case limited && !in.EndDate.After(r.now):
		return invalidValue(in.EndDate.String(), "endDate")
	}
	c.end = in.EndDate
	var err error
	c.zone, err = r.zoneOf(in.AvailabilityZone, in.AvailabilityZoneId)
	return err
}

// endReservation gives what is not used back to the pool. Instances in it run on.
func (c *Cloud) endReservation(reservation *capacityReservation, state ec2types.CapacityReservationState) {
	if reservation.state != ec2types.CapacityReservationStateActive {
		return
	}
	reservation.state = state
	c.returnCapacity(reservation.pool(), reservation.total-reservation.used)
	for _, i := range c.instances.all() {
		if i.capacity == reservation {
			i.leaveReservation()
		}
	}
	c.after(Span{Min: c.latency.Terminated}, func() { c.reservations.remove(reservation.id) })
}

func (r *request) cancelCapacityReservation(in *ec2.CancelCapacityReservationInput) (*ec2.CancelCapacityReservationOutput, error) {
	c, err := r.reservations.one(kindCapacity, "capacityReservationId", in.CapacityReservationId)
	if err != nil {
		return nil, err
	}
	if c.state != ec2types.CapacityReservationStateActive {
		return nil, clientError("InvalidCapacityReservationState", "The capacity reservation %s is '%s', not 'active'", c.id, c.state)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	r.endReservation(c, ec2types.CapacityReservationStateCancelled)
	return &ec2.CancelCapacityReservationOutput{Return: awssdk.Bool(true)}, nil
}

func (r *request) describeCapacityReservations(in *ec2.DescribeCapacityReservationsInput) (*ec2.DescribeCapacityReservationsOutput, error) {
	reservations, err := r.reservations.pick(kindCapacity, in.CapacityReservationIds)
	if err != nil {
		return nil, err
	}
	of := func(c *capacityReservation) attributes {
		d := r.describeCapacityReservation(c)
		return attributes(func(name string) (values []string, ok bool) {
			switch name {
			case "instance-type":
				return []string{c.instanceType}, true
			case "owner-id":
				return []string{r.account}, true
			case "instance-platform":
				return []string{string(d.InstancePlatform)}, true
			case "availability-zone":
				return []string{c.zone}, true
			case "tenancy":
				return []string{string(d.Tenancy)}, true
			case "state":
				return []string{string(c.state)}, true
			case "start-date":
				return []string{c.created.Format(timestampFormat)}, true
			case "end-date":
				if c.end != nil {
					values = append(values, c.end.UTC().Format(timestampFormat))
				}
				return values, true
			case "end-date-type":
				return []string{string(d.EndDateType)}, true
			case "instance-match-criteria":
				return []string{string(d.InstanceMatchCriteria)}, true
			}
			return nil, false
		}).with(c.tags)
	}
	described, next, err := filterPage(reservations, in.Filters, of, r.describeCapacityReservation, in.NextToken, in.MaxResults, 1, 1000)
	return &ec2.DescribeCapacityReservationsOutput{CapacityReservations: described, NextToken: next}, err
}

func (r *request) describeCapacityReservation(c *capacityReservation) ec2types.CapacityReservation {
	d := ec2types.CapacityReservation{
		CapacityReservationId: &c.id, CapacityReservationArn: awssdk.String(r.arn("ec2", "capacity-reservation/"+c.id)), OwnerId: &r.account,
		InstanceType: awssdk.String(c.instanceType), InstancePlatform: ec2types.CapacityReservationInstancePlatformLinuxUnix,
		AvailabilityZone: &c.zone, AvailabilityZoneId: awssdk.String(r.zoneID(c.zone)), Tenancy: ec2types.CapacityReservationTenancyDefault,
		TotalInstanceCount: awssdk.Int32(int32(c.total)), AvailableInstanceCount: awssdk.Int32(int32(c.total - c.used)),
		EbsOptimized: awssdk.Bool(false), EphemeralStorage: awssdk.Bool(false), State: c.state, CreateDate: &c.created, StartDate: &c.created,
		EndDate: c.end, EndDateType: ec2types.EndDateTypeUnlimited, InstanceMatchCriteria: ec2types.InstanceMatchCriteriaOpen,
		ReservationType: ec2types.CapacityReservationTypeDefault, Tags: tagList(c.tags),
	}
	if c.state != ec2types.CapacityReservationStateActive {
		d.AvailableInstanceCount = awssdk.Int32(0)
	}
	if c.end != nil {
		d.EndDateType = ec2types.EndDateTypeLimited
	}
	if c.targeted {
		d.InstanceMatchCriteria = ec2types.InstanceMatchCriteriaTargeted
	}
	return d
}

// errNotOffered is the error for a type in a zone that does not have it.
func (c *Cloud) errNotOffered(instanceType, zone string) *apiError {
	return clientError("Unsupported",
		"Your requested instance type (%s) is not supported in your requested Availability Zone (%s). Please retry your request by not specifying an Availability Zone or choosing %s.",
		instanceType, zone, strings.Join(c.zonesOffering(instanceType), ", "))
}
