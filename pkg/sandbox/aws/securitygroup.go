// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const (
	// maxGroups is the default quota of security groups of an interface.
	maxGroups = 5
	// maxRules is the default quota of rules of a group, in each direction.
	maxRules = 60
)

type securityGroup struct {
	id, name, description string
	vpc                   *vpc
	rules                 []*groupRule
	tags                  map[string]string
	visibleAt             time.Time
}

// visible tells whether a new group is known to all of EC2 by now.
func (g *securityGroup) visible() bool { return !time.Now().Before(g.visibleAt) }

// pickGroups returns the groups with these ids, or all that are known when none is given.
func (c *Cloud) pickGroups(ids []string) ([]*securityGroup, error) {
	groups, err := c.groups.pick(kindGroup, ids)
	if err != nil {
		return nil, err
	}
	known := slices.DeleteFunc(slices.Clone(groups), func(g *securityGroup) bool { return !g.visible() })
	if len(ids) > 0 && len(known) < len(groups) {
		return nil, kindGroup.missing(ids...)
	}
	return known, nil
}

// group returns the group that a required parameter names.
func (c *Cloud) group(parameter string, id *string) (*securityGroup, error) {
	g, err := c.groups.one(kindGroup, parameter, id)
	if err == nil && !g.visible() {
		return nil, kindGroup.missing(g.id)
	}
	return g, err
}

// groupRule has one peer: a CIDR block or a group.
type groupRule struct {
	id, protocol, description string
	egress                    bool
	from, to                  int32 // -1 where they do not apply
	cidr                      netip.Prefix
	group                     string
	tags                      map[string]string
}

func (r *groupRule) same(other *groupRule) bool {
	return r.egress == other.egress && r.protocol == other.protocol && r.from == other.from && r.to == other.to &&
		r.cidr == other.cidr && r.group == other.group
}

// newGroup returns a group with the rule that EC2 gives to every new one: all traffic out.
func newGroup(id, name, description string, v *vpc) *securityGroup {
	return &securityGroup{id: id, name: name, description: description, vpc: v, tags: map[string]string{}, rules: []*groupRule{
		{id: "sgr-" + id[len("sg-"):], egress: true, protocol: "-1", from: -1, to: -1, cidr: netip.MustParsePrefix("0.0.0.0/0"), tags: map[string]string{}},
	}}
}

func (r *request) createSecurityGroup(in *ec2.CreateSecurityGroupInput) (*ec2.CreateSecurityGroupOutput, error) {
	if in.VpcId == nil {
		return nil, clientError("VPCIdNotSpecified", "No default VPC for this user")
	}
	v, err := r.vpcs.one(kindVPC, "vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	name := awssdk.ToString(in.GroupName)
	if name == "" {
		return nil, missingParameter("groupName")
	}
	if awssdk.ToString(in.Description) == "" {
		return nil, missingParameter("groupDescription")
	}
	for _, g := range r.groups.all() {
		if g.vpc == v && g.name == name {
			return nil, clientError("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", name, v.id)
		}
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeSecurityGroup)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	g := newGroup(r.ids.next("sg"), name, *in.Description, v)
	g.tags, g.visibleAt = tags, r.now.Add(r.latency.Propagation.draw(r.random))
	r.groups.add(g.id, g)
	return &ec2.CreateSecurityGroupOutput{GroupId: &g.id, Tags: tagList(tags), SecurityGroupArn: awssdk.String(r.arn("ec2", "security-group/"+g.id))}, nil
}

func (r *request) authorizeIngress(in *ec2.AuthorizeSecurityGroupIngressInput) (*ec2.AuthorizeSecurityGroupIngressOutput, error) {
	rules, err := r.authorize(in.GroupId, in.IpPermissions, in.TagSpecifications, false)
	return &ec2.AuthorizeSecurityGroupIngressOutput{Return: awssdk.Bool(true), SecurityGroupRules: rules}, err
}

func (r *request) authorizeEgress(in *ec2.AuthorizeSecurityGroupEgressInput) (*ec2.AuthorizeSecurityGroupEgressOutput, error) {
	rules, err := r.authorize(in.GroupId, in.IpPermissions, in.TagSpecifications, true)
	return &ec2.AuthorizeSecurityGroupEgressOutput{Return: awssdk.Bool(true), SecurityGroupRules: rules}, err
}

func (r *request) authorize(
	id *string, permissions []ec2types.IpPermission, specs []ec2types.TagSpecification, egress bool,
) ([]ec2types.SecurityGroupRule, error) {
	g, err := r.group("groupId", id)
	if err != nil {
		return nil, err
	}
	var added []*groupRule
	for _, p := range permissions {
		rules, err := r.parsePermission(g, p, egress)
		if err != nil {
			return nil, err
		}
		added = append(added, rules...)
	}
	if len(added) == 0 {
		return nil, missingParameter("ipPermissions")
	}
	for _, rule := range added {
		if slices.ContainsFunc(g.rules, rule.same) {
			return nil, clientError("InvalidPermission.Duplicate", "the specified rule \"peer: %s%s, protocol %s\" already exists",
				rule.group, cidrText(rule.cidr), rule.protocol)
		}
	}
	count := len(added)
	for _, rule := range g.rules {
		if rule.egress == egress {
			count++
		}
	}
	if count > maxRules {
		return nil, clientError("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
	}
	tags, err := tagsFor(specs, ec2types.ResourceTypeSecurityGroupRule)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	var described []ec2types.SecurityGroupRule
	for _, rule := range added {
		rule.id, rule.tags = r.ids.implicit("sgr"), merge(tags)
		g.rules = append(g.rules, rule)
		described = append(described, r.describeRule(g, rule))
	}
	return described, nil
}

func cidrText(p netip.Prefix) string {
	if p.IsValid() {
		return p.String()
	}
	return ""
}

// parsePermission makes one rule of each peer.
func (r *request) parsePermission(g *securityGroup, p ec2types.IpPermission, egress bool) ([]*groupRule, error) {
	protocol := awssdk.ToString(p.IpProtocol)
	if number, ok := map[string]string{"6": "tcp", "17": "udp", "1": "icmp"}[protocol]; ok {
		protocol = number
	}
	base := groupRule{protocol: protocol, egress: egress, from: -1, to: -1}
	switch protocol {
	case "":
		return nil, missingParameter("ipProtocol")
	case "tcp", "udp":
		if p.FromPort == nil || p.ToPort == nil || *p.FromPort < 0 || *p.ToPort > 65535 || *p.FromPort > *p.ToPort {
			return nil, clientError("InvalidParameterValue", "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.")
		}
		base.from, base.to = *p.FromPort, *p.ToPort
	case "icmp":
		if p.FromPort != nil {
			base.from = *p.FromPort
		}
		if p.ToPort != nil {
			base.to = *p.ToPort
		}
	}
	var rules []*groupRule
	for _, peer := range p.IpRanges {
		cidr, err := netip.ParsePrefix(awssdk.ToString(peer.CidrIp))
		if err != nil || !cidr.Addr().Is4() {
			return nil, clientError("InvalidParameterValue", "CIDR block %s is malformed", awssdk.ToString(peer.CidrIp))
		}
		rule := base
		rule.cidr, rule.description = cidr.Masked(), awssdk.ToString(peer.Description)
		rules = append(rules, &rule)
	}
	for _, peer := range p.UserIdGroupPairs {
		other, err := r.group("groups.groupId", peer.GroupId)
		if err != nil {
			return nil, err
		}
		if other.vpc != g.vpc {
			return nil, clientError("InvalidGroup.NotFound", "You have specified two resources that belong to different networks.")
		}
		rule := base
		rule.group, rule.description = other.id, awssdk.ToString(peer.Description)
		rules = append(rules, &rule)
	}
	return rules, nil
}

func (r *request) describeSecurityGroups(in *ec2.DescribeSecurityGroupsInput) (*ec2.DescribeSecurityGroupsOutput, error) {
	if len(in.GroupIds) > 0 && in.MaxResults != nil {
		return nil, clientError("InvalidParameterCombination", "The parameter groupIds cannot be used with the parameter maxResults")
	}
	groups, err := r.pickGroups(in.GroupIds)
	if err != nil {
		return nil, err
	}
	of := func(g *securityGroup) attributes {
		return attributes(func(name string) ([]string, bool) {
			switch name {
			case "group-id":
				return []string{g.id}, true
			case "group-name":
				return []string{g.name}, true
			case "description":
				return []string{g.description}, true
			case "vpc-id":
				return []string{g.vpc.id}, true
			case "owner-id":
				return []string{r.account}, true
			}
			return nil, false
		}).with(g.tags)
	}
	described, next, err := filterPage(groups, in.Filters, of, r.describeGroup, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeSecurityGroupsOutput{SecurityGroups: described, NextToken: next}, err
}

func (r *request) describeGroup(g *securityGroup) ec2types.SecurityGroup {
	d := ec2types.SecurityGroup{
		GroupId: &g.id, GroupName: &g.name, Description: &g.description, VpcId: &g.vpc.id, OwnerId: &r.account, Tags: tagList(g.tags),
	}
	d.IpPermissions = r.describePermissions(g, false)
	d.IpPermissionsEgress = r.describePermissions(g, true)
	return d
}

// describePermissions gathers the rules that differ in their peer only.
func (r *request) describePermissions(g *securityGroup, egress bool) []ec2types.IpPermission {
	var permissions []ec2types.IpPermission
	index := map[string]int{}
	for _, rule := range g.rules {
		if rule.egress != egress {
			continue
		}
		key := fmt.Sprint(rule.protocol, rule.from, rule.to)
		i, ok := index[key]
		if !ok {
			i = len(permissions)
			index[key] = i
			p := ec2types.IpPermission{IpProtocol: awssdk.String(rule.protocol)}
			if rule.protocol != "-1" {
				p.FromPort, p.ToPort = awssdk.Int32(rule.from), awssdk.Int32(rule.to)
			}
			permissions = append(permissions, p)
		}
		var description *string
		if rule.description != "" {
			description = awssdk.String(rule.description)
		}
		if rule.group != "" {
			permissions[i].UserIdGroupPairs = append(permissions[i].UserIdGroupPairs,
				ec2types.UserIdGroupPair{GroupId: awssdk.String(rule.group), UserId: &r.account, Description: description})
		} else {
			permissions[i].IpRanges = append(permissions[i].IpRanges,
				ec2types.IpRange{CidrIp: awssdk.String(rule.cidr.String()), Description: description})
		}
	}
	return permissions
}

// groupsFor resolves the security groups of an interface in a subnet; none means the VPC's default group.
func (c *Cloud) groupsFor(s *subnet, ids []string) ([]*securityGroup, error) {
	if len(ids) == 0 {
		return []*securityGroup{s.vpc.defaultGroup}, nil
	}
	groups, err := c.pickGroups(ids)
	if err != nil {
		return nil, err
	}
	if len(groups) > maxGroups {
		return nil, clientError("SecurityGroupsPerInterfaceLimitExceeded", "You have exceeded the maximum number of security groups allowed per network interface.")
	}
	for _, g := range groups {
		if g.vpc != s.vpc {
			return nil, clientError("InvalidParameter", "Security group %s and subnet %s belong to different networks.", g.id, s.id)
		}
	}
	return groups, nil
}

func groupIDs(groups []*securityGroup) []string {
	ids := make([]string, len(groups))
	for i, g := range groups {
		ids[i] = g.id
	}
	return ids
}

func groupIdentifiers(groups []*securityGroup) []ec2types.GroupIdentifier {
	identifiers := make([]ec2types.GroupIdentifier, len(groups))
	for i, g := range groups {
		identifiers[i] = ec2types.GroupIdentifier{GroupId: awssdk.String(g.id), GroupName: awssdk.String(g.name)}
	}
	return identifiers
}
