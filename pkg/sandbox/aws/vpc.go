// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/netip"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// maxBlocks is the default quota of IPv4 CIDR blocks of a VPC.
const maxBlocks = 5

type vpc struct {
	id              string
	blocks          []*vpcBlock
	defaultGroup    *securityGroup
	mainTable       *routeTable
	mainAssociation string
	dnsSupport      bool // enableDnsSupport
	dnsHostnames    bool // enableDnsHostnames
	usageMetrics    bool // enableNetworkAddressUsageMetrics
	tags            map[string]string
}

type vpcBlock struct {
	id    string
	cidr  netip.Prefix
	state ec2types.VpcCidrBlockStateCode
}

// associated returns the blocks that addresses can be taken from.
func (v *vpc) associated() []netip.Prefix {
	var cidrs []netip.Prefix
	for _, b := range v.blocks {
		if b.state == ec2types.VpcCidrBlockStateCodeAssociated {
			cidrs = append(cidrs, b.cidr)
		}
	}
	return cidrs
}

// parseBlock reads a CIDR block of a VPC or subnet: /16 to /28, made canonical silently.
func parseBlock(text *string, code string) (netip.Prefix, error) {
	if text == nil {
		return netip.Prefix{}, missingParameter("cidrBlock")
	}
	cidr, err := netip.ParsePrefix(*text)
	if err != nil || !cidr.Addr().Is4() {
		return netip.Prefix{}, clientError("InvalidParameterValue", "Value (%s) for parameter cidrBlock is invalid. This is not a valid CIDR block.", *text)
	}
	if cidr.Bits() < 16 || cidr.Bits() > prefixBits {
		return netip.Prefix{}, clientError(code, "The CIDR '%s' is invalid.", *text)
	}
	return cidr.Masked(), nil
}

func (r *request) createVPC(in *ec2.CreateVpcInput) (*ec2.CreateVpcOutput, error) {
	cidr, err := parseBlock(in.CidrBlock, "InvalidVpcRange")
	if err != nil {
		return nil, err
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeVpc)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	v := &vpc{id: r.ids.next("vpc"), dnsSupport: true, tags: tags}
	v.blocks = []*vpcBlock{{id: r.ids.implicit("vpc-cidr-assoc"), cidr: cidr, state: ec2types.VpcCidrBlockStateCodeAssociated}}
	r.vpcs.add(v.id, v)
	v.mainTable = &routeTable{id: r.ids.implicit("rtb"), vpc: v, tags: map[string]string{}}
	v.mainAssociation = r.ids.implicit("rtbassoc")
	r.routeTables.add(v.mainTable.id, v.mainTable)
	v.defaultGroup = newGroup(r.ids.implicit("sg"), "default", "default VPC security group", v)
	v.defaultGroup.rules = append(v.defaultGroup.rules, &groupRule{
		id: r.ids.implicit("sgr"), protocol: "-1", from: -1, to: -1, group: v.defaultGroup.id, tags: map[string]string{},
	})
	r.groups.add(v.defaultGroup.id, v.defaultGroup)
	description := r.describeVPC(v)
	description.State = ec2types.VpcStatePending
	return &ec2.CreateVpcOutput{Vpc: &description}, nil
}

func (r *request) associateVPCBlock(in *ec2.AssociateVpcCidrBlockInput) (*ec2.AssociateVpcCidrBlockOutput, error) {
	v, err := r.vpcs.one(kindVPC, "vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	cidr, err := parseBlock(in.CidrBlock, "InvalidVpcRange")
	if err != nil {
		return nil, err
	}
	if len(v.blocks) >= maxBlocks {
		return nil, clientError("CidrLimitExceeded", "This network '%s' has met its maximum number of allowed CIDRs: %d", v.id, maxBlocks)
	}
	for _, b := range v.blocks {
		if b.cidr.Overlaps(cidr) {
			return nil, clientError("InvalidVpc.Range", "CIDR '%s' overlaps with '%s' of the VPC", cidr, b.cidr)
		}
	}
	if !mayAssociate(v.blocks[0].cidr, cidr) {
		return nil, clientError("InvalidVpc.Range",
			"The CIDR '%s' is restricted. Use a CIDR from the same private address range as the current VPC CIDR, or use a publicly-routable CIDR.", cidr)
	}
	if err := r.clear(v, cidr); err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	b := &vpcBlock{id: r.ids.next("vpc-cidr-assoc"), cidr: cidr, state: ec2types.VpcCidrBlockStateCodeAssociating}
	v.blocks = append(v.blocks, b)
	description := describeBlock(b)
	r.after(r.latency.Associate, func() { b.state = ec2types.VpcCidrBlockStateCodeAssociated })
	for _, p := range r.peerings.all() {
		if p.state == ec2types.VpcPeeringConnectionStateReasonCodePendingAcceptance && p.accepter == v && overlap(p.requester.associated(), []netip.Prefix{cidr}) {
			p.become(ec2types.VpcPeeringConnectionStateReasonCodeFailed, "Failed due to overlapping CIDR range")
		}
	}
	return &ec2.AssociateVpcCidrBlockOutput{VpcId: &v.id, CidrBlockAssociation: &description}, nil
}

// clear tells whether routes and peers of the VPC leave room for a block ("Amazon VPC CIDR blocks" in the VPC user guide). The codes
// are not documented.
func (r *request) clear(v *vpc, cidr netip.Prefix) error {
	for _, t := range r.routeTables.all() {
		for _, route := range t.routes {
			if t.vpc == v && cidr.Bits() <= route.destination.Bits() && cidr.Contains(route.destination.Addr()) {
				return clientError("InvalidVpc.Range", "The CIDR '%s' is the same as or larger than the destination '%s' of a route in route table %s", cidr, route.destination, t.id)
			}
		}
	}
	for _, p := range r.peerings.all() {
		switch {
		case !p.joins(v):
		case p.state == ec2types.VpcPeeringConnectionStateReasonCodePendingAcceptance && p.requester == v:
			return clientError("IncorrectState", "The peering connection %s is pending acceptance: no CIDR can be associated with its requester %s", p.id, v.id)
		case p.state == ec2types.VpcPeeringConnectionStateReasonCodeActive:
			other := p.requester
			if other == v {
				other = p.accepter
			}
			for _, b := range other.blocks {
				if b.cidr.Overlaps(cidr) {
					return clientError("InvalidVpc.Range", "The CIDR '%s' overlaps with '%s' of the peered VPC %s", cidr, b.cidr, other.id)
				}
			}
		}
	}
	return nil
}

var (
	private10  = netip.MustParsePrefix("10.0.0.0/8")
	first10    = netip.MustParsePrefix("10.0.0.0/15")
	zero10     = netip.MustParsePrefix("10.0.0.0/16")
	private172 = netip.MustParsePrefix("172.16.0.0/12")
	private192 = netip.MustParsePrefix("192.168.0.0/16")
	benchmark  = netip.MustParsePrefix("198.19.0.0/16")
	default172 = netip.MustParsePrefix("172.31.0.0/16")
	// noUnicast is no range of hosts.
	noUnicast = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
	}
)

// mayAssociate tells whether a VPC that was created with block primary may add a block: the table of "IPv4 CIDR block association
// restrictions" in the VPC user guide. 100.64.0.0/10 and public ranges are open to all.
func mayAssociate(primary, block netip.Prefix) bool {
	within := func(p netip.Prefix, ranges ...netip.Prefix) bool {
		for _, r := range ranges {
			if r.Overlaps(p) {
				return true
			}
		}
		return false
	}
	switch {
	case within(block, noUnicast...):
		return false
	case within(primary, private10):
		return !within(block, private172, private192, benchmark) && (!within(primary, first10) || !within(block, zero10))
	case within(primary, private172):
		return !within(block, private10, private192, default172, benchmark)
	case within(primary, private192):
		return !within(block, private10, private172, benchmark)
	case within(primary, benchmark):
		return !within(block, private10, private172, private192)
	}
	return !within(block, private10, private172, private192, benchmark)
}

func (r *request) describeVPCs(in *ec2.DescribeVpcsInput) (*ec2.DescribeVpcsOutput, error) {
	vpcs, err := r.vpcs.pick(kindVPC, in.VpcIds)
	if err != nil {
		return nil, err
	}
	described, next, err := filterPage(vpcs, in.Filters, r.vpcAttributes, r.describeVPC, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeVpcsOutput{Vpcs: described, NextToken: next}, err
}

func (r *request) vpcAttributes(v *vpc) attributes {
	return attributes(func(name string) ([]string, bool) {
		var blocks []string
		for _, b := range v.blocks {
			blocks = append(blocks, b.cidr.String())
		}
		switch name {
		case "vpc-id":
			return []string{v.id}, true
		case "cidr":
			return blocks[:1], true
		case "cidr-block-association.cidr-block":
			return blocks, true
		case "state":
			return []string{"available"}, true
		case "is-default":
			return []string{"false"}, true
		case "owner-id":
			return []string{r.account}, true
		}
		return nil, false
	}).with(v.tags)
}

func (r *request) describeVPC(v *vpc) ec2types.Vpc {
	d := ec2types.Vpc{
		VpcId: &v.id, CidrBlock: awssdk.String(v.blocks[0].cidr.String()), State: ec2types.VpcStateAvailable, OwnerId: &r.account,
		InstanceTenancy: ec2types.TenancyDefault, IsDefault: awssdk.Bool(false), Tags: tagList(v.tags),
	}
	for _, b := range v.blocks {
		d.CidrBlockAssociationSet = append(d.CidrBlockAssociationSet, describeBlock(b))
	}
	return d
}

func describeBlock(b *vpcBlock) ec2types.VpcCidrBlockAssociation {
	return ec2types.VpcCidrBlockAssociation{
		AssociationId: awssdk.String(b.id), CidrBlock: awssdk.String(b.cidr.String()),
		CidrBlockState: &ec2types.VpcCidrBlockState{State: b.state},
	}
}
