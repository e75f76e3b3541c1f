// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"
	"strconv"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func (r *request) revokeIngress(in *ec2.RevokeSecurityGroupIngressInput) (*ec2.RevokeSecurityGroupIngressOutput, error) {
	revoked, err := r.revoke(in.GroupId, in.IpPermissions, in.SecurityGroupRuleIds, false)
	return &ec2.RevokeSecurityGroupIngressOutput{Return: awssdk.Bool(true), RevokedSecurityGroupRules: revoked}, err
}

func (r *request) revokeEgress(in *ec2.RevokeSecurityGroupEgressInput) (*ec2.RevokeSecurityGroupEgressOutput, error) {
	revoked, err := r.revoke(in.GroupId, in.IpPermissions, in.SecurityGroupRuleIds, true)
	return &ec2.RevokeSecurityGroupEgressOutput{Return: awssdk.Bool(true), RevokedSecurityGroupRules: revoked}, err
}

// revoke takes rules by id or by what they say, all of them or none.
func (r *request) revoke(id *string, permissions []ec2types.IpPermission, ruleIDs []string, egress bool) ([]ec2types.RevokedSecurityGroupRule, error) {
	g, err := r.group("groupId", id)
	if err != nil {
		return nil, err
	}
	if len(permissions) > 0 && len(ruleIDs) > 0 {
		return nil, clientError("InvalidParameterCombination", "Rules are given by ipPermissions or by security group rule ids, not by both")
	}
	var going []*groupRule
	for _, ruleID := range ruleIDs {
		at := slices.IndexFunc(g.rules, func(rule *groupRule) bool { return rule.id == ruleID && rule.egress == egress })
		if at < 0 {
			return nil, kindRule.missing(ruleID)
		}
		going = append(going, g.rules[at])
	}
	for _, p := range permissions {
		named, err := r.parsePermission(g, p, egress)
		if err != nil {
			return nil, err
		}
		for _, rule := range named {
			at := slices.IndexFunc(g.rules, rule.same)
			if at < 0 {
				return nil, clientError("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
			}
			going = append(going, g.rules[at])
		}
	}
	if len(going) == 0 {
		return nil, missingParameter("ipPermissions")
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	var revoked []ec2types.RevokedSecurityGroupRule
	for _, rule := range going {
		d := r.describeRule(g, rule)
		gone := ec2types.RevokedSecurityGroupRule{
			GroupId: &g.id, SecurityGroupRuleId: d.SecurityGroupRuleId, IsEgress: d.IsEgress, IpProtocol: d.IpProtocol,
			FromPort: d.FromPort, ToPort: d.ToPort, CidrIpv4: d.CidrIpv4, Description: d.Description,
		}
		if d.ReferencedGroupInfo != nil {
			gone.ReferencedGroupId = d.ReferencedGroupInfo.GroupId
		}
		revoked = append(revoked, gone)
	}
	g.rules = slices.DeleteFunc(g.rules, func(rule *groupRule) bool { return slices.Contains(going, rule) })
	return revoked, nil
}

// ruleOf is a rule with the group it is of.
type ruleOf struct {
	group *securityGroup
	rule  *groupRule
}

func (r *request) allRules() []ruleOf {
	var rules []ruleOf
	for _, g := range r.groups.all() {
		for _, rule := range g.rules {
			rules = append(rules, ruleOf{g, rule})
		}
	}
	return rules
}

func (r *request) describeRules(in *ec2.DescribeSecurityGroupRulesInput) (*ec2.DescribeSecurityGroupRulesOutput, error) {
	if len(in.SecurityGroupRuleIds) > 0 && in.MaxResults != nil {
		return nil, clientError("InvalidParameterCombination", "The parameter securityGroupRuleIds cannot be used with the parameter maxResults")
	}
	rules := r.allRules()
	for _, id := range in.SecurityGroupRuleIds {
		if !slices.ContainsFunc(rules, func(known ruleOf) bool { return known.rule.id == id }) {
			return nil, kindRule.missing(id)
		}
	}
	if len(in.SecurityGroupRuleIds) > 0 {
		rules = slices.DeleteFunc(rules, func(known ruleOf) bool { return !slices.Contains(in.SecurityGroupRuleIds, known.rule.id) })
	}
	of := func(known ruleOf) attributes {
		return attributes(func(name string) ([]string, bool) {
			switch name {
			case "group-id":
				return []string{known.group.id}, true
			case "security-group-rule-id":
				return []string{known.rule.id}, true
			}
			return nil, false
		}).with(known.rule.tags)
	}
	describe := func(known ruleOf) ec2types.SecurityGroupRule { return r.describeRule(known.group, known.rule) }
	described, next, err := filterPage(rules, in.Filters, of, describe, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeSecurityGroupRulesOutput{SecurityGroupRules: described, NextToken: next}, err
}

func (r *request) describeRule(g *securityGroup, rule *groupRule) ec2types.SecurityGroupRule {
	d := ec2types.SecurityGroupRule{
		GroupId: &g.id, GroupOwnerId: &r.account, IsEgress: awssdk.Bool(rule.egress), SecurityGroupRuleId: &rule.id,
		SecurityGroupRuleArn: awssdk.String(r.arn("ec2", "security-group-rule/"+rule.id)),
		IpProtocol:           awssdk.String(rule.protocol), FromPort: awssdk.Int32(rule.from), ToPort: awssdk.Int32(rule.to), Tags: tagList(rule.tags),
	}
	if rule.description != "" {
		d.Description = awssdk.String(rule.description)
	}
	if rule.group != "" {
		d.ReferencedGroupInfo = &ec2types.ReferencedSecurityGroup{GroupId: awssdk.String(rule.group), UserId: &r.account}
	} else {
		d.CidrIpv4 = awssdk.String(rule.cidr.String())
	}
	return d
}

// deleteSecurityGroup refuses while an interface is in the group, or a rule of another group names it.
func (r *request) deleteSecurityGroup(in *ec2.DeleteSecurityGroupInput) (*ec2.DeleteSecurityGroupOutput, error) {
	g, err := r.group("groupId", in.GroupId)
	if err != nil {
		return nil, err
	}
	if g == g.vpc.defaultGroup {
		return nil, clientError("CannotDelete", "the specified group: %s name: %s cannot be deleted by a user", strconv.Quote(g.id), strconv.Quote(g.name))
	}
	inUse := slices.ContainsFunc(r.interfaces.all(), func(n *networkInterface) bool { return slices.Contains(n.groups, g) })
	named := slices.ContainsFunc(r.allRules(), func(other ruleOf) bool { return other.group != g && other.rule.group == g.id })
	if inUse || named {
		return nil, clientError("DependencyViolation", "resource %s has a dependent object", g.id)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	r.groups.remove(g.id)
	return &ec2.DeleteSecurityGroupOutput{Return: awssdk.Bool(true), GroupId: &g.id}, nil
}
