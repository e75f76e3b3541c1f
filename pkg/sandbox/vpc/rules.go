// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// Order of the chains at the forward hook.
var (
	priorityDestination = nftables.ChainPriorityRef(0)
	priorityInternet    = nftables.ChainPriorityRef(5)
	priorityEgress      = nftables.ChainPriorityRef(10)
	priorityIngress     = nftables.ChainPriorityRef(11)
)

// applyRules makes the router's table what the snapshot says.
func (r *router) applyRules(s aws.Snapshot, cables map[string]cable, peers map[string][]netip.Prefix) error {
	rules := &ruleset{}
	rules.addAddressCheck(cables, peers)
	rules.addMarks(cables, r.tables)
	rules.addPublicAddresses(s)
	rules.addGroups(s, cables, append(slices.Sorted(maps.Keys(peers)), uplink))
	if err := r.firewall.apply(rules); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	return nil
}

// addAddressCheck drops what an ENI sends with an address that it does not hold, and what it would get that is for another:
// EC2's source/destination check, which can be off. From a peered VPC come its own addresses only.
func (r *ruleset) addAddressCheck(cables map[string]cable, peers map[string][]netip.Prefix) {
	linkAndAddress := nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)
	senders, receivers := r.set("senders", nftables.TypeIFName), r.set("receivers", nftables.TypeIFName) // that are not checked
	addresses, prefixes := r.set("addresses", linkAndAddress), r.set("prefixes", linkAndAddress)
	senders.add(ifname(uplink))
	receivers.add(ifname(uplink))
	for name, c := range cables {
		if !c.eni.SourceDestCheck {
			senders.add(ifname(name))
			receivers.add(ifname(name))
			continue
		}
		for _, p := range addressesOf(c.eni) {
			key := append(ifname(name), p.Masked().Addr().AsSlice()...)
			if p.IsSingleIP() {
				addresses.add(key)
			} else {
				prefixes.add(key)
			}
		}
	}
	const second = unix.IFNAMSIZ / 4 // register, after the link's name
	for _, direction := range []struct {
		name      string
		hook      hook
		unchecked *set
		link      expr.MetaKey
		offset    uint32
	}{
		{"source", hook{nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw}, senders, expr.MetaKeyIIFNAME, sourceOffset},
		{"destination", hook{nftables.ChainTypeFilter, nftables.ChainHookForward, priorityDestination}, receivers, expr.MetaKeyOIFNAME, destinationOffset},
	} {
		check := r.chain(direction.name)
		check.strict, check.hook = true, &direction.hook
		link, address := loadMeta(direction.link, 0), loadAddress(direction.offset, second)
		check.rule(link, in(direction.unchecked), accept)
		check.rule(link, address, in(addresses), accept)
		check.rule(link, address, cut(prefixBits, second), in(prefixes), accept)
		for _, peer := range slices.Sorted(maps.Keys(peers)) {
			if direction.unchecked == receivers {
				receivers.add(ifname(peer))
				continue
			}
			for _, cidr := range peers[peer] {
				check.rule(link, is(ifname(peer)), within(cidr, sourceOffset), accept)
			}
		}
	}
}

// addMarks gives what an ENI sends the mark of its subnet's route table. What comes from elsewhere has none, and reaches
// only what is in the VPC.
func (r *ruleset) addMarks(cables map[string]cable, tables map[string]int) {
	marks := r.mapping("tables", nftables.TypeIFName, nftables.TypeMark)
	for name, c := range cables {
		if number := tables[c.subnet.RouteTableID]; number != 0 {
			marks.value(ifname(name), binaryutil.NativeEndian.PutUint32(uint32(number)))
		}
	}
	mark := r.chain("mark")
	mark.hook = &hook{nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle}
	mark.rule(loadMeta(expr.MetaKeyIIFNAME, 0), lookUp(marks), []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register}})
}

// publicAddresses of a VPC with an internet gateway, to private ones.
func publicAddresses(s aws.Snapshot) map[netip.Addr]netip.Addr {
	if len(s.InternetGateways) == 0 {
		return nil
	}
	private := map[netip.Addr]netip.Addr{}
	for _, eni := range s.Interfaces {
		if eni.Public.IsValid() {
			private[eni.Public] = eni.Primary
		}
	}
	for _, gateway := range s.NATGateways {
		if gateway.State == "available" {
			private[gateway.PublicIP] = gateway.PrivateIP
		}
	}
	return private
}

// addPublicAddresses makes the router its VPC's internet gateway: it translates addresses one to one, and passes nothing of
// those that have no public one.
func (r *ruleset) addPublicAddresses(s aws.Snapshot) {
	toPublic := r.mapping("to-public", nftables.TypeIPAddr, nftables.TypeIPAddr)
	toPrivate := r.mapping("to-private", nftables.TypeIPAddr, nftables.TypeIPAddr)
	privates := r.set("with-public", nftables.TypeIPAddr)
	for public, private := range publicAddresses(s) {
		toPublic.value(private.AsSlice(), public.AsSlice())
		toPrivate.value(public.AsSlice(), private.AsSlice())
		privates.add(private.AsSlice())
	}
	internet := r.chain("internet")
	internet.hook = &hook{nftables.ChainTypeFilter, nftables.ChainHookForward, priorityInternet}
	outward := slices.Concat(loadMeta(expr.MetaKeyOIFNAME, 0), is(ifname(uplink)), loadAddress(sourceOffset, 0))
	internet.rule(outward, notIn(privates), verdict(expr.VerdictDrop, ""))

	out := r.chain("out")
	out.hook = &hook{nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource}
	out.rule(outward, lookUp(toPublic), []expr.Any{&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: register}})
	inward := r.chain("in")
	inward.hook = &hook{nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest}
	inward.rule(loadMeta(expr.MetaKeyIIFNAME, 0), is(ifname(uplink)), loadAddress(destinationOffset, 0), lookUp(toPrivate),
		[]expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: register}})
}
