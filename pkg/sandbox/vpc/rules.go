// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// policy is what the router lets through.
type policy struct {
	vpc []netip.Prefix // may talk to each other
	nat []translation
}

// translation lets subnets reach the internet with a NAT gateway's public address.
type translation struct {
	subnets []netip.Prefix
	public  netip.Addr
}

func (p policy) String() string { return fmt.Sprint(p.vpc, p.nat) }

func policyOf(s aws.Snapshot) policy {
	var p policy
	for _, vpc := range s.VPCs {
		p.vpc = append(p.vpc, vpc.CIDRs...)
	}
	tables := map[string]aws.RouteTable{}
	for _, table := range s.RouteTables {
		tables[table.ID] = table
	}
	for _, gateway := range s.NATGateways {
		if gateway.State != "available" {
			continue
		}
		t := translation{public: gateway.PublicIP}
		for _, subnet := range s.Subnets {
			if target(tables[subnet.RouteTableID], InternetHost) == gateway.ID {
				t.subnets = append(t.subnets, subnet.CIDR)
			}
		}
		if len(t.subnets) > 0 {
			p.nat = append(p.nat, t)
		}
	}
	return p
}

// target of the longest prefix that holds the address, "" when there is none.
func target(table aws.RouteTable, address netip.Addr) string {
	best, found := -1, ""
	for _, route := range table.Routes {
		if route.Destination.Contains(address) && route.Destination.Bits() > best {
			best, found = route.Destination.Bits(), route.Target
			if route.Blackhole {
				found = ""
			}
		}
	}
	return found
}

// applyRules replaces the router's table in one transaction, when it would change.
func (n *Network) applyRules(s aws.Snapshot) error {
	p := policyOf(s)
	if n.rules == p.String() {
		return nil
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(n.router)))
	if err != nil {
		return err
	}
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "vpc"}
	conn.AddTable(table) // so that the next line finds one the first time
	conn.DelTable(table)
	conn.AddTable(table)
	drop := nftables.ChainPolicyDrop
	forward := conn.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	nat := conn.AddChain(&nftables.Chain{
		Name: "nat", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	accept := &expr.Verdict{Kind: expr.VerdictAccept}
	conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: append(established(), accept)})
	vpc, err := addSet(conn, table, "vpc", p.vpc)
	if err != nil {
		return err
	}
	conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: slices.Concat(in(vpc, sourceOffset), in(vpc, destinationOffset), []expr.Any{accept})})
	for i, t := range p.nat {
		set, err := addSet(conn, table, fmt.Sprintf("nat%d", i), t.subnets)
		if err != nil {
			return err
		}
		outward := slices.Concat(in(set, sourceOffset), leaving(uplink))
		conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: slices.Concat(outward, []expr.Any{accept})})
		conn.AddRule(&nftables.Rule{Table: table, Chain: nat, Exprs: slices.Concat(outward, []expr.Any{
			&expr.Immediate{Register: 1, Data: t.public.AsSlice()},
			&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
		})})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("router's rules: %w", err)
	}
	n.rules = p.String()
	return nil
}

const sourceOffset, destinationOffset = 12, 16 // in the IPv4 header

func in(set *nftables.Set, offset uint32) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
	}
}

func leaving(link string) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, link)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
	}
}

func established() []expr.Any {
	states := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: states, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// addSet of intervals; the prefixes do not overlap, EC2 sees to that.
func addSet(conn *nftables.Conn, table *nftables.Table, name string, prefixes []netip.Prefix) (*nftables.Set, error) {
	set := &nftables.Set{Table: table, Name: name, KeyType: nftables.TypeIPAddr, Interval: true}
	var elements []nftables.SetElement
	for _, p := range prefixes {
		first, end := p.Masked().Addr(), lastOf(p).Next()
		elements = append(elements, nftables.SetElement{Key: first.AsSlice()}, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
	}
	if err := conn.AddSet(set, elements); err != nil {
		return nil, fmt.Errorf("set %s of %s: %w", name, strings.Trim(fmt.Sprint(prefixes), "[]"), err)
	}
	return set, nil
}

func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(bytes)
}
