// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"
	"strconv"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// candidate is one launch template with one override: a pool that a fleet can launch from.
type candidate struct {
	launch       launch
	instanceType string
	zone         string
	rank         [2]float64 // see ranking
	described    *ec2types.LaunchTemplateAndOverridesResponse
}

// createFleet is a fleet of type instant: one attempt, answered with what was launched and what was not.
func (r *request) createFleet(in *ec2.CreateFleetInput) (*ec2.CreateFleetOutput, error) {
	if in.Type != ec2types.FleetTypeInstant {
		return nil, notSimulated("fleets of type %q, only of type instant", in.Type)
	}
	target := in.TargetCapacitySpecification
	if target == nil || target.TotalTargetCapacity == nil {
		return nil, missingParameter("TargetCapacitySpecification.TotalTargetCapacity")
	}
	if *target.TotalTargetCapacity < 1 {
		return nil, clientError("InvalidTargetCapacitySpecification", "TotalTargetCapacity must be at least 1")
	}
	spot, err := fleetLifecycle(target.DefaultTargetCapacityType)
	if err != nil {
		return nil, err
	}
	// Permissions are all that EC2 looks at in a dry run: Karpenter's has several subnets in a zone, which a fleet refuses.
	if err := r.act(); err != nil {
		return nil, err
	}
	candidates, err := r.candidates(in, spot)
	if err != nil {
		return nil, err
	}
	others := append([]ec2types.ResourceType{ec2types.ResourceTypeFleet}, launchTags...)
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeInstance, others...)
	if err != nil {
		return nil, err
	}
	interfaceTags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeNetworkInterface, others...)
	if err != nil {
		return nil, err
	}
	fleetID := "fleet-" + uuid(r.random)
	out := &ec2.CreateFleetOutput{FleetId: &fleetID, Errors: []ec2types.CreateFleetError{}, Instances: []ec2types.CreateFleetInstance{}}
	lifecycle := ec2types.InstanceLifecycleOnDemand
	if spot {
		lifecycle = ec2types.InstanceLifecycleSpot
	}
	left := int(*target.TotalTargetCapacity)
	for _, c := range candidates {
		if left == 0 {
			break
		}
		c.launch.instanceTags = merge(c.launch.instanceTags, tags)
		c.launch.interfaceTags = merge(c.launch.interfaceTags, interfaceTags)
		c.launch.systemTags = merge(c.launch.systemTags, map[string]string{"aws:ec2:fleet-id": fleetID})
		started, err := r.startUpTo(left, c.launch)
		left -= len(started)
		if len(started) > 0 {
			out.Instances = append(out.Instances, ec2types.CreateFleetInstance{
				InstanceIds: started, InstanceType: ec2types.InstanceType(c.instanceType), Lifecycle: lifecycle, LaunchTemplateAndOverrides: c.described,
			})
		}
		if err != nil {
			e := asAPIError(err)
			out.Errors = append(out.Errors, ec2types.CreateFleetError{
				ErrorCode: &e.code, ErrorMessage: &e.message, Lifecycle: lifecycle, LaunchTemplateAndOverrides: c.described,
			})
		}
	}
	return out, nil
}

// startUpTo launches as many instances as the pool gives, and says why there are not more.
func (r *request) startUpTo(n int, l launch) ([]string, error) {
	p, err := r.plan(l)
	if err != nil {
		return nil, err
	}
	reservation := r.ids.implicit("r")
	var started []string
	for len(started) < n {
		i, err := r.start(p, reservation, len(started))
		if err != nil {
			return started, err
		}
		r.boot(i)
		started = append(started, i.id)
	}
	return started, nil
}

func fleetLifecycle(t ec2types.DefaultTargetCapacityType) (spot bool, err error) {
	switch t {
	case ec2types.DefaultTargetCapacityTypeSpot:
		return true, nil
	case ec2types.DefaultTargetCapacityTypeOnDemand, "":
		return false, nil
	}
	return false, notSimulated("the capacity type %s", t)
}

// candidates returns the pools of a request in the order of its allocation strategy.
func (r *request) candidates(in *ec2.CreateFleetInput, spot bool) ([]candidate, error) {
	if len(in.LaunchTemplateConfigs) == 0 {
		return nil, missingParameter("LaunchTemplateConfigs")
	}
	rank, err := r.ranking(in, spot)
	if err != nil {
		return nil, err
	}
	var candidates []candidate
	type pool struct{ instanceType, zone string }
	pools := map[pool]bool{}
	for _, config := range in.LaunchTemplateConfigs {
		spec := config.LaunchTemplateSpecification
		if spec == nil {
			return nil, missingParameter("LaunchTemplateConfigs.LaunchTemplateSpecification")
		}
		t, err := r.template(spec.LaunchTemplateId, spec.LaunchTemplateName)
		if err != nil {
			return nil, err
		}
		if awssdk.ToString(spec.Version) == "" { // unlike RunInstances, a fleet has no default
			return nil, missingParameter("LaunchTemplateConfigs.LaunchTemplateSpecification.Version")
		}
		version, err := t.version(*spec.Version)
		if err != nil {
			return nil, err
		}
		overrides := config.Overrides
		if len(overrides) == 0 {
			overrides = []ec2types.FleetLaunchTemplateOverridesRequest{{}}
		}
		for _, o := range overrides {
			c, err := r.candidate(t, version, o)
			if err != nil {
				return nil, err
			}
			c.launch.spot = spot
			// Type and zone make a pool: two subnets of a zone do not make two (terraform-aws-github-runner#5297).
			key := pool{c.instanceType, c.zone}
			if pools[key] {
				return nil, clientError("InvalidFleetConfig", "The fleet configuration contains duplicate instance pools.")
			}
			pools[key] = true
			c.rank = rank(c, o)
			candidates = append(candidates, c)
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return slices.Compare(a.rank[:], b.rank[:]) })
	return candidates, nil
}

func (r *request) candidate(t *launchTemplate, version *templateVersion, o ec2types.FleetLaunchTemplateOverridesRequest) (candidate, error) {
	var c candidate
	l, err := t.launch(version)
	if err != nil {
		return c, err
	}
	override(&l.instanceType, string(o.InstanceType))
	override(&l.imageID, awssdk.ToString(o.ImageId))
	override(&l.subnetID, awssdk.ToString(o.SubnetId))
	override(&l.zone, awssdk.ToString(o.AvailabilityZone))
	c.launch, c.instanceType, c.zone = l, l.instanceType, l.zone
	if id := l.primarySubnet(); id != "" {
		s, err := r.subnet("subnetId", &id)
		if err != nil {
			return c, err
		}
		c.zone = s.zone
	}
	c.described = &ec2types.LaunchTemplateAndOverridesResponse{
		LaunchTemplateSpecification: &ec2types.FleetLaunchTemplateSpecification{LaunchTemplateId: &t.id, Version: awssdk.String(strconv.FormatInt(version.number, 10))},
		Overrides: &ec2types.FleetLaunchTemplateOverrides{
			InstanceType: o.InstanceType, ImageId: o.ImageId, SubnetId: o.SubnetId, AvailabilityZone: o.AvailabilityZone, Priority: o.Priority,
		},
	}
	return c, nil
}

// primarySubnet is where a launch puts the primary interface, "" when nothing says so.
func (l launch) primarySubnet() string {
	for _, li := range l.interfaces {
		if li.card == 0 && li.index == 0 && li.subnetID != "" {
			return li.subnetID
		}
	}
	return l.subnetID
}
