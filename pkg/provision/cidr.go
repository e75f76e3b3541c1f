// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"fmt"
	"net/netip"
)

// maxBlocks is how many IPv4 CIDR blocks a VPC can have at most. The quota is 5 until it is raised; only EC2 knows where it stands.
const maxBlocks = 50

var (
	tenNet        = netip.MustParsePrefix("10.0.0.0/8")
	tenFirst      = netip.MustParsePrefix("10.0.0.0/15")
	tenZero       = netip.MustParsePrefix("10.0.0.0/16")
	oneSevenTwo   = netip.MustParsePrefix("172.16.0.0/12")
	defaultVPC    = netip.MustParsePrefix("172.31.0.0/16")
	oneNineTwo    = netip.MustParsePrefix("192.168.0.0/16")
	benchmarking  = netip.MustParsePrefix("198.19.0.0/16")
	notForUnicast = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
	}
)

// Associable returns why AWS lets no VPC with this primary block have the CIDR, nil when it does: "IPv4 CIDR block association
// restrictions" of the Amazon VPC user guide. 100.64.0.0/10 and publicly routable ranges are open to all.
func Associable(primary, cidr netip.Prefix) error {
	if cidr.Bits() < 16 || cidr.Bits() > 28 {
		return fmt.Errorf("%s is no block of /16 to /28", cidr)
	}
	for _, special := range notForUnicast {
		if special.Overlaps(cidr) {
			return fmt.Errorf("%s is in %s, which no VPC can have", cidr, special)
		}
	}
	for _, restricted := range restrictedFor(primary) {
		if restricted.Overlaps(cidr) {
			return fmt.Errorf("AWS does not associate blocks of %s with a VPC whose primary block is %s", restricted, primary)
		}
	}
	return nil
}

func restrictedFor(primary netip.Prefix) []netip.Prefix {
	switch {
	case tenFirst.Overlaps(primary):
		return []netip.Prefix{oneSevenTwo, oneNineTwo, benchmarking, tenZero}
	case tenNet.Overlaps(primary):
		return []netip.Prefix{oneSevenTwo, oneNineTwo, benchmarking}
	case oneSevenTwo.Overlaps(primary):
		return []netip.Prefix{tenNet, oneNineTwo, benchmarking, defaultVPC}
	case oneNineTwo.Overlaps(primary):
		return []netip.Prefix{tenNet, oneSevenTwo, benchmarking}
	case benchmarking.Overlaps(primary):
		return []netip.Prefix{tenNet, oneSevenTwo, oneNineTwo}
	}
	return []netip.Prefix{tenNet, oneSevenTwo, oneNineTwo, benchmarking}
}

// Contains tells whether inner lies in outer.
func Contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// blocks plans the CIDRs. Any that cannot be had ends the plan: where subnets go depends on all of them.
func (p *planner) blocks() {
	count := 0
	for _, block := range p.in.VPC.Blocks {
		if block.State != Disassociated && block.State != Failed {
			count++
		}
	}
	for i, cidr := range p.in.CIDRs {
		for _, other := range p.in.CIDRs[:i] {
			if other.Overlaps(cidr) {
				p.refuse(ReasonCIDROverlaps, "", "spec.provision.cidrs has %s and %s, which overlap: remove one", other, cidr)
			}
		}
		if p.haveBlock(cidr) {
			continue
		}
		if !p.checkBlock(cidr) {
			continue
		}
		count++
		if count > maxBlocks {
			p.refuse(ReasonTooManyCIDRs, "", "%s would be IPv4 CIDR block %d of %s, and a VPC has at most %d: declare fewer and larger ones", cidr, count, p.in.VPC.ID, maxBlocks)
			continue
		}
		p.act(Action{Kind: AssociateCIDR, CIDR: cidr})
	}
}

// haveBlock tells whether a block of the VPC holds the CIDR, or is about to.
func (p *planner) haveBlock(cidr netip.Prefix) bool {
	for _, block := range p.in.VPC.Blocks {
		if !Contains(block.CIDR, cidr) {
			continue
		}
		switch block.State {
		case Associated:
			return true
		case Associating:
			p.wait("CIDR %s is associating with %s", block.CIDR, p.in.VPC.ID)
			return true
		case Disassociating, Failing:
			p.wait("CIDR %s of %s is %s", block.CIDR, p.in.VPC.ID, block.State)
			return true
		}
	}
	return false
}

func (p *planner) checkBlock(cidr netip.Prefix) bool {
	before := len(p.plan.Refusals)
	for i, block := range p.in.VPC.Blocks {
		if block.State == Failed && block.CIDR.Overlaps(cidr) {
			p.refuse(ReasonCIDRFailed, "", "the association of CIDR %s with %s failed (%s): disassociate it (aws ec2 disassociate-vpc-cidr-block --association-id %s), then %s is tried again",
				block.CIDR, p.in.VPC.ID, block.Message, block.ID, cidr)
			return false
		}
		if block.State != Disassociated && block.CIDR.Overlaps(cidr) {
			p.refuse(ReasonCIDROverlaps, "", "CIDR %s overlaps %s, which %s has: declare %s itself, a part of it, or another range", cidr, block.CIDR, p.in.VPC.ID, block.CIDR)
			return false
		}
		if i > 0 {
			continue
		}
		if err := Associable(block.CIDR, cidr); err != nil {
			p.refuse(ReasonCIDRRestricted, "", "CIDR %s cannot join %s: %s; declare one of 100.64.0.0/10", cidr, p.in.VPC.ID, err)
		}
	}
	for _, table := range p.in.VPC.RouteTables {
		for _, destination := range table.Destinations {
			if Contains(cidr, destination) {
				p.refuse(ReasonCIDRRouted, "", "CIDR %s cannot join %s: route table %s has a route to %s, and AWS takes no block as large as the destination of a route, or larger; "+
					"declare another range or remove the route", cidr, p.in.VPC.ID, table.ID, destination)
				return false
			}
		}
	}
	return len(p.plan.Refusals) == before
}
