// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// taggable is a kind of resource that has tags.
type taggable struct {
	prefix   string // of ids
	resource ec2types.ResourceType
	ids      func() []string
	tags     func(id string) map[string]string // nil: there is no such resource
}

// taggableTable is the resources of a table, but for those that are not known yet.
func taggableTable[T any](prefix string, resource ec2types.ResourceType, t *table[T], tags func(*T) map[string]string) taggable {
	return taggable{
		prefix: prefix, resource: resource,
		ids: func() []string { return t.order },
		tags: func(id string) map[string]string {
			if found := t.get(id); found != nil {
				return tags(found)
			}
			return nil
		},
	}
}

func (r *request) taggables() []taggable {
	return []taggable{
		taggableTable("i", ec2types.ResourceTypeInstance, &r.instances, func(i *instance) map[string]string {
			if !r.visible(i.visibleAt) {
				return nil
			}
			return i.tags
		}),
		taggableTable("eni", ec2types.ResourceTypeNetworkInterface, &r.interfaces, func(n *networkInterface) map[string]string {
			if !r.visible(n.visibleAt) {
				return nil
			}
			return n.tags
		}),
		taggableTable("subnet", ec2types.ResourceTypeSubnet, &r.subnets, func(s *subnet) map[string]string {
			if !s.visible() {
				return nil
			}
			return s.tags
		}),
		taggableTable("vpc", ec2types.ResourceTypeVpc, &r.vpcs, func(v *vpc) map[string]string { return v.tags }),
		taggableTable("sg", ec2types.ResourceTypeSecurityGroup, &r.groups, func(g *securityGroup) map[string]string {
			if !g.visible() {
				return nil
			}
			return g.tags
		}),
		taggableTable("rtb", ec2types.ResourceTypeRouteTable, &r.routeTables, func(t *routeTable) map[string]string { return t.tags }),
		taggableTable("igw", ec2types.ResourceTypeInternetGateway, &r.gateways, func(g *internetGateway) map[string]string { return g.tags }),
		taggableTable("nat", ec2types.ResourceTypeNatgateway, &r.natGateways, func(g *natGateway) map[string]string { return g.tags }),
		taggableTable("pcx", ec2types.ResourceTypeVpcPeeringConnection, &r.peerings, func(p *peering) map[string]string { return p.tags }),
		taggableTable("tgw", ec2types.ResourceTypeTransitGateway, &r.transitGateways, func(g *transitGateway) map[string]string { return g.tags }),
		taggableTable("tgw-attach", ec2types.ResourceTypeTransitGatewayAttachment, &r.transitAttachments, func(a *transitAttachment) map[string]string { return a.tags }),
		taggableTable("tgw-rtb", ec2types.ResourceTypeTransitGatewayRouteTable, &r.transitTables, func(t *transitTable) map[string]string { return t.tags }),
		taggableTable("eipalloc", ec2types.ResourceTypeElasticIp, &r.addresses, func(a *elasticAddress) map[string]string { return a.tags }),
		taggableTable("lt", ec2types.ResourceTypeLaunchTemplate, &r.templates, func(t *launchTemplate) map[string]string { return t.tags }),
		taggableTable("pg", ec2types.ResourceTypePlacementGroup, &r.placementGroups, func(g *placementGroup) map[string]string { return g.tags }),
		taggableTable("cr", ec2types.ResourceTypeCapacityReservation, &r.reservations, func(c *capacityReservation) map[string]string { return c.tags }),
		r.taggableRules(),
		r.taggableReservations(),
	}
}

// taggableRules are the rules of all security groups.
func (r *request) taggableRules() taggable {
	return taggable{
		prefix: "sgr", resource: ec2types.ResourceTypeSecurityGroupRule,
		ids: func() (ids []string) {
			for _, known := range r.allRules() {
				ids = append(ids, known.rule.id)
			}
			return ids
		},
		tags: func(id string) map[string]string {
			rules := r.allRules()
			if at := slices.IndexFunc(rules, func(known ruleOf) bool { return known.rule.id == id }); at >= 0 {
				return rules[at].rule.tags
			}
			return nil
		},
	}
}

// taggableReservations are the CIDR reservations of all subnets.
func (r *request) taggableReservations() taggable {
	all := func() (reservations []cidrReservation) {
		for _, s := range r.subnets.all() {
			reservations = append(reservations, s.space.reservations...)
		}
		return reservations
	}
	return taggable{
		prefix: "scr", resource: ec2types.ResourceTypeSubnetCidrReservation,
		ids: func() (ids []string) {
			for _, reservation := range all() {
				ids = append(ids, reservation.id)
			}
			return ids
		},
		tags: func(id string) map[string]string {
			for _, reservation := range all() {
				if reservation.id == id {
					return reservation.tags
				}
			}
			return nil
		},
	}
}

// tagOf is one tag of one resource.
type tagOf struct {
	id, key, value string
	resource       ec2types.ResourceType
}

func (r *request) describeTags(in *ec2.DescribeTagsInput) (*ec2.DescribeTagsOutput, error) {
	var all []tagOf
	for _, t := range r.taggables() {
		for _, id := range t.ids() {
			tags := t.tags(id)
			for _, key := range sortedKeys(tags) {
				all = append(all, tagOf{id: id, key: key, value: tags[key], resource: t.resource})
			}
		}
	}
	of := func(tag tagOf) attributes {
		return attributes(func(name string) ([]string, bool) {
			switch name {
			case "resource-id":
				return []string{tag.id}, true
			case "resource-type":
				return []string{string(tag.resource)}, true
			case "key":
				return []string{tag.key}, true
			case "value":
				return []string{tag.value}, true
			}
			return nil, false
		}).with(map[string]string{tag.key: tag.value})
	}
	describe := func(tag tagOf) ec2types.TagDescription {
		return ec2types.TagDescription{
			ResourceId: awssdk.String(tag.id), ResourceType: tag.resource, Key: awssdk.String(tag.key), Value: awssdk.String(tag.value),
		}
	}
	described, next, err := filterPage(all, in.Filters, of, describe, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeTagsOutput{Tags: described, NextToken: next}, err
}
