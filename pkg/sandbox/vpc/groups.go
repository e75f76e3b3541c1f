// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// prefixBits of an ENI's prefixes.
const prefixBits = 28

// addGroups lets through what security groups allow: first what leaves the sender's ENI, then what enters the receiver's. A
// map leads from the ENI's link to the chain of its groups, so the cost of a packet does not grow with the number of ENIs;
// a group that is a peer is a set of its members' addresses and one of their prefixes. Open links are not an ENI's.
//
// Tracked connections pass whatever the groups say now, as EC2's do.
func (r *ruleset) addGroups(s aws.Snapshot, cables map[string]cable, open []string) {
	groups := map[string]aws.SecurityGroup{}
	for _, group := range s.SecurityGroups {
		groups[group.ID] = group
	}
	members := r.members(s)
	for _, direction := range []struct {
		name     string
		link     expr.MetaKey
		priority *nftables.ChainPriority
		rules    func(aws.SecurityGroup) []aws.Rule
		peer     uint32
	}{
		{"egress", expr.MetaKeyIIFNAME, priorityEgress, func(g aws.SecurityGroup) []aws.Rule { return g.Egress }, destinationOffset},
		{"ingress", expr.MetaKeyOIFNAME, priorityIngress, func(g aws.SecurityGroup) []aws.Rule { return g.Ingress }, sourceOffset},
	} {
		links := r.mapping(direction.name+"-links", nftables.TypeIFName, nftables.TypeVerdict)
		base := r.chain(direction.name)
		base.strict, base.hook = true, &hook{nftables.ChainTypeFilter, nftables.ChainHookForward, direction.priority}
		base.rule(connection(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept)
		base.rule(loadMeta(direction.link, 0), dispatch(links))

		used := map[string]bool{}
		for name, c := range cables {
			if len(c.eni.Groups) == 0 { // a NAT gateway's
				links.verdict(ifname(name), &expr.Verdict{Kind: expr.VerdictAccept})
				continue
			}
			held := slices.Sorted(slices.Values(c.eni.Groups))
			used[strings.Join(held, ".")] = true
			links.verdict(ifname(name), &expr.Verdict{Kind: expr.VerdictJump, Chain: direction.name + "." + strings.Join(held, ".")})
		}
		for _, link := range open {
			links.verdict(ifname(link), &expr.Verdict{Kind: expr.VerdictAccept})
		}

		single := map[string]bool{}
		for _, combination := range slices.Sorted(maps.Keys(used)) {
			held := strings.Split(combination, ".")
			for _, id := range held {
				single[id] = true
			}
			if len(held) > 1 {
				several := r.chain(direction.name + "." + combination)
				for _, id := range held {
					several.rule(verdict(expr.VerdictJump, direction.name+"."+id))
				}
			}
		}
		for _, id := range slices.Sorted(maps.Keys(single)) {
			group := r.chain(direction.name + "." + id)
			for _, rule := range direction.rules(groups[id]) {
				for _, peer := range peersOf(rule, direction.peer, members) {
					group.rule(service(rule), peer, accept)
				}
			}
		}
	}
}

// membership of a group: its members' addresses and prefixes.
type membership struct{ addresses, prefixes *set }

// members of the groups that are peers of rules.
func (r *ruleset) members(s aws.Snapshot) map[string]membership {
	peers := map[string]bool{}
	for _, group := range s.SecurityGroups {
		for _, rule := range slices.Concat(group.Ingress, group.Egress) {
			for _, peer := range rule.Groups {
				peers[peer] = true
			}
		}
	}
	members := map[string]membership{}
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		members[id] = membership{r.set(id, nftables.TypeIPAddr), r.set(id+".prefixes", nftables.TypeIPAddr)}
	}
	for _, eni := range s.Interfaces {
		for _, id := range eni.Groups {
			group, ok := members[id]
			if !ok {
				continue
			}
			for _, p := range addressesOf(eni) {
				if p.IsSingleIP() {
					group.addresses.add(p.Addr().AsSlice())
				} else {
					group.prefixes.add(p.Masked().Addr().AsSlice())
				}
			}
		}
	}
	return members
}

// peersOf a rule: each way in which the other side's address can match it.
func peersOf(rule aws.Rule, offset uint32, members map[string]membership) [][]expr.Any {
	var peers [][]expr.Any
	for _, cidr := range rule.CIDRs {
		peers = append(peers, within(cidr, offset))
	}
	for _, id := range rule.Groups {
		peers = append(peers,
			slices.Concat(loadAddress(offset, 0), in(members[id].addresses)),
			slices.Concat(loadAddress(offset, 0), cut(prefixBits, 0), in(members[id].prefixes)))
	}
	return peers
}

// service tests a rule's protocol, and its ports or ICMP type and code.
func service(rule aws.Rule) []expr.Any {
	numbers := map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP}
	number, ok := numbers[rule.Protocol]
	if !ok {
		n, err := strconv.ParseUint(rule.Protocol, 10, 8)
		if err != nil { // "-1"
			return nil
		}
		number = byte(n)
	}
	exprs := append(loadMeta(expr.MetaKeyL4PROTO, 0), is([]byte{number})...)
	transport := func(offset, length uint32) *expr.Payload {
		return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
	}
	switch number {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP:
		first, last := max(rule.FromPort, 0), rule.ToPort
		if last < 0 {
			last = 65535
		}
		exprs = append(exprs, transport(2, 2), &expr.Range{
			Op: expr.CmpOpEq, Register: register,
			FromData: binary.BigEndian.AppendUint16(nil, uint16(first)), ToData: binary.BigEndian.AppendUint16(nil, uint16(last)),
		})
	case unix.IPPROTO_ICMP: // FromPort is the type, ToPort the code
		if rule.FromPort >= 0 {
			exprs = append(append(exprs, transport(0, 1)), is([]byte{byte(rule.FromPort)})...)
		}
		if rule.ToPort >= 0 {
			exprs = append(append(exprs, transport(1, 1)), is([]byte{byte(rule.ToPort)})...)
		}
	}
	return exprs
}
