// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const (
	// maxPartitions is the default quota of partitions of a group in a zone.
	maxPartitions = 7
	// maxSpread is the number of running instances of a spread group in a zone.
	maxSpread = 7
)

type placementGroup struct {
	id, name   string
	strategy   ec2types.PlacementStrategy
	partitions int
	tags       map[string]string
}

// placement is what a launch says of its placement group.
type placement struct {
	groupID, groupName string
	partition          int32 // 0: any
}

// placementGroupOf finds the group of a launch, nil for none.
func (r *request) placementGroupOf(p placement) (*placementGroup, error) {
	switch {
	case p.groupID != "" && p.groupName != "":
		return nil, clientError("InvalidParameterCombination", "A placement group must be specified by id or by name, not by both")
	case p.groupID != "":
		return r.placementGroups.one(kindPlacement, "groupId", &p.groupID)
	case p.groupName != "":
		return r.placementGroupByName(p.groupName)
	case p.partition != 0:
		return nil, clientError("InvalidParameterCombination", "A partition number needs a placement group of strategy partition")
	}
	return nil, nil
}

func (r *request) placementGroupByName(name string) (*placementGroup, error) {
	for _, g := range r.placementGroups.all() {
		if g.name == name {
			return g, nil
		}
	}
	return nil, clientError("InvalidPlacementGroup.Unknown", "The Placement Group '%s' is unknown.", name)
}

// checkPlacement checks a plan against its group, but for the instances that are there.
func (r *request) checkPlacement(p *launchPlan, asked placement) error {
	g := p.group
	if g == nil {
		return nil
	}
	if !slices.Contains(p.info.PlacementGroupInfo.SupportedStrategies, ec2types.PlacementGroupStrategy(g.strategy)) {
		return clientError("InvalidParameterCombination",
			"%s placement groups are not supported by the '%s' instance type. Specify a supported instance type or change the placement group strategy, and try again.",
			titled(string(g.strategy)), p.info.InstanceType)
	}
	if asked.partition != 0 && (g.strategy != ec2types.PlacementStrategyPartition || asked.partition < 1 || int(asked.partition) > g.partitions) {
		return invalidValue(fmt.Sprint(asked.partition), "partitionNumber")
	}
	p.partition = asked.partition
	return nil
}

func titled(text string) string { return string(text[0]-'a'+'A') + text[1:] }

// members are the instances in a group.
func (r *request) members(g *placementGroup) []*instance {
	return slices.DeleteFunc(r.instances.all(), func(i *instance) bool {
		return i.group != g || i.state == ec2types.InstanceStateNameTerminated
	})
}

// joinGroup tells whether one more instance of a plan fits into its group, and into which partition. How EC2 words it when a
// group's rule is broken is not documented; the codes are not among those after which Karpenter tries another offering.
func (r *request) joinGroup(p *launchPlan) (partition int32, err error) {
	if p.group == nil {
		return 0, nil
	}
	inZone := make([]int, maxPartitions+1) // by partition; 0 for the other strategies
	count := 0
	for _, i := range r.members(p.group) {
		if i.subnet.zone == p.zone {
			count++
			inZone[i.partition]++
		} else if p.group.strategy == ec2types.PlacementStrategyCluster {
			return 0, clientError("InvalidParameterCombination", "The cluster placement group '%s' is in %s: it cannot have instances in %s too",
				p.group.name, i.subnet.zone, p.zone)
		}
	}
	switch p.group.strategy {
	case ec2types.PlacementStrategySpread:
		if count >= maxSpread {
			return 0, clientError("InstanceLimitExceeded", "The spread placement group '%s' has %d instances in %s, the maximum", p.group.name, maxSpread, p.zone)
		}
	case ec2types.PlacementStrategyPartition:
		if p.partition != 0 {
			return p.partition, nil
		}
		emptiest := int32(1)
		for n := range p.group.partitions {
			if inZone[n+1] < inZone[emptiest] {
				emptiest = int32(n + 1)
			}
		}
		return emptiest, nil
	}
	return 0, nil
}

func (r *request) createPlacementGroup(in *ec2.CreatePlacementGroupInput) (*ec2.CreatePlacementGroupOutput, error) {
	g := &placementGroup{name: awssdk.ToString(in.GroupName), strategy: in.Strategy}
	if g.name == "" {
		return nil, missingParameter("groupName")
	}
	if _, err := r.placementGroupByName(g.name); err == nil {
		return nil, clientError("InvalidPlacementGroup.Duplicate", "The Placement Group '%s' already exists.", g.name)
	}
	switch g.strategy {
	case "":
		g.strategy = ec2types.PlacementStrategyCluster
	case ec2types.PlacementStrategyCluster, ec2types.PlacementStrategySpread, ec2types.PlacementStrategyPartition:
	default:
		return nil, invalidValue(string(g.strategy), "strategy")
	}
	if in.SpreadLevel != "" && (g.strategy != ec2types.PlacementStrategySpread || in.SpreadLevel != ec2types.SpreadLevelRack) {
		return nil, notSimulated("the spread level %s of a %s placement group", in.SpreadLevel, g.strategy)
	}
	if (in.PartitionCount != nil) != (g.strategy == ec2types.PlacementStrategyPartition) {
		return nil, clientError("InvalidParameterCombination", "A partition count goes with the strategy partition, and only with it")
	}
	if in.PartitionCount != nil {
		if g.partitions = int(*in.PartitionCount); g.partitions < 1 || g.partitions > maxPartitions {
			return nil, invalidValue(fmt.Sprint(g.partitions), "partitionCount")
		}
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypePlacementGroup)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	g.id, g.tags = r.ids.next("pg"), tags
	r.placementGroups.add(g.id, g)
	description := r.describePlacementGroup(g)
	return &ec2.CreatePlacementGroupOutput{PlacementGroup: &description}, nil
}

func (r *request) deletePlacementGroup(in *ec2.DeletePlacementGroupInput) (*ec2.DeletePlacementGroupOutput, error) {
	if awssdk.ToString(in.GroupName) == "" {
		return nil, missingParameter("groupName")
	}
	g, err := r.placementGroupByName(*in.GroupName)
	if err != nil {
		return nil, err
	}
	if len(r.members(g)) > 0 {
		return nil, clientError("InvalidPlacementGroup.InUse", "The placement group '%s' is in use and may not be deleted.", g.name)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	r.placementGroups.remove(g.id)
	return &ec2.DeletePlacementGroupOutput{}, nil
}

func (r *request) describePlacementGroups(in *ec2.DescribePlacementGroupsInput) (*ec2.DescribePlacementGroupsOutput, error) {
	groups, err := r.placementGroups.pick(kindPlacement, in.GroupIds)
	if err != nil {
		return nil, err
	}
	for _, name := range in.GroupNames {
		if _, err := r.placementGroupByName(name); err != nil {
			return nil, err
		}
	}
	if len(in.GroupNames) > 0 {
		groups = slices.DeleteFunc(groups, func(g *placementGroup) bool { return !slices.Contains(in.GroupNames, g.name) })
	}
	of := func(g *placementGroup) attributes {
		d := r.describePlacementGroup(g)
		return attributes(func(name string) ([]string, bool) {
			switch name {
			case "group-name":
				return []string{g.name}, true
			case "group-arn":
				return []string{*d.GroupArn}, true
			case "spread-level":
				return []string{string(d.SpreadLevel)}, true
			case "state":
				return []string{string(d.State)}, true
			case "strategy":
				return []string{string(g.strategy)}, true
			}
			return nil, false
		}).with(g.tags)
	}
	described, _, err := filterPage(groups, in.Filters, of, r.describePlacementGroup, nil, nil, 1, int32(len(groups)))
	return &ec2.DescribePlacementGroupsOutput{PlacementGroups: described}, err
}

func (r *request) describePlacementGroup(g *placementGroup) ec2types.PlacementGroup {
	d := ec2types.PlacementGroup{
		GroupId: &g.id, GroupName: &g.name, GroupArn: awssdk.String(r.arn("ec2", "placement-group/"+g.name)), Strategy: g.strategy,
		State: ec2types.PlacementGroupStateAvailable, Tags: tagList(g.tags),
	}
	switch g.strategy {
	case ec2types.PlacementStrategySpread:
		d.SpreadLevel = ec2types.SpreadLevelRack
	case ec2types.PlacementStrategyPartition:
		d.PartitionCount = awssdk.Int32(int32(g.partitions))
	}
	return d
}
