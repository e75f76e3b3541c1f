// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The table, as `nft list table ip dovetail` shows it:
//
//	set pods  { the node's pod prefixes }
//	set local { the VPC's CIDRs and excluded ones }
//	chain nodeport { type filter hook prerouting priority mangle
//	    iifname PRIMARY fib daddr type local ct mark set ct mark | 0x80 }        before DNAT: NodePort's connections
//	chain mark { type filter hook prerouting priority -90                       after kube-proxy's DNAT
//	    ct direction original ip saddr @pods ip daddr != @local fib daddr type != local ct mark set ct mark | 0x80
//	    ip saddr @pods ct mark & 0x80 == 0x80 meta mark set meta mark | 0x80 }    rule 1024 takes it to main
//	chain snat { type nat hook postrouting priority srcnat
//	    oifname PRIMARY ip saddr @pods ip daddr != @local snat to NODE fully-random }
//
// Only connections that pods open are marked: what answers a connection that came to the pod from outside of the VPC, through
// its own ENI, goes back by that ENI. EC2 drops it anywhere else.
const (
	tableName     = "dovetail"
	setPods       = "pods"
	setLocal      = "local"
	chainNodePort = "nodeport"
	chainMark     = "mark"
	chainSNAT     = "snat"
	sourceOffset  = 12 // in the IPv4 header
	destOffset    = 16
	afterDNAT     = -90
	register      = 1
)

// nftables replaces what differs in one transaction: the content of a set, or the table.
func (a *applier) nftables() error {
	if a.primary == nil {
		return nil
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	rules := a.nftRules()
	sets := map[string][]netip.Prefix{setPods: a.state.podPrefixes(), setLocal: a.state.Local}
	found, err := readTable(conn, sets, rules)
	if err != nil {
		return fmt.Errorf("nftables: reading table %s: %w", tableName, err)
	}
	if found.whole && len(found.stale) == 0 {
		return nil
	}
	table := "table " + tableName
	if found.whole {
		err := a.set(KindNftables, "elements of "+strings.Join(found.stale, " and "), func() error { return replaceSets(conn, found.stale, sets) })
		if err == nil {
			return nil
		}
		table += fmt.Sprintf(" (its elements alone: %v)", err)
	}
	return a.set(KindNftables, table, func() error { return replaceTable(conn, sets, rules) })
}

var ownTable = &nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName}

func newSet(name string) *nftables.Set {
	return &nftables.Set{Table: ownTable, Name: name, KeyType: nftables.TypeIPAddr, Interval: true}
}

func replaceSets(conn *nftables.Conn, names []string, sets map[string][]netip.Prefix) error {
	for _, name := range names {
		conn.FlushSet(newSet(name))
		if err := conn.SetAddElements(newSet(name), elements(sets[name])); err != nil {
			return err
		}
	}
	return conn.Flush()
}

func replaceTable(conn *nftables.Conn, sets map[string][]netip.Prefix, rules map[string][]nftRule) error {
	conn.AddTable(ownTable) // so that there is one to delete, the first time too
	conn.DelTable(ownTable)
	conn.AddTable(ownTable)
	for name, prefixes := range sets {
		if err := conn.AddSet(newSet(name), elements(prefixes)); err != nil {
			return fmt.Errorf("nftables: set %s: %w", name, err)
		}
	}
	for _, chain := range chains() {
		chain.Table = ownTable
		added := conn.AddChain(chain)
		for _, rule := range rules[chain.Name] {
			conn.AddRule(&nftables.Rule{Table: ownTable, Chain: added, Exprs: rule.exprs, UserData: rule.digest})
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: replacing table %s: %w", tableName, err)
	}
	return nil
}

func chains() []*nftables.Chain {
	return []*nftables.Chain{
		{Name: chainNodePort, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle},
		{Name: chainMark, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(afterDNAT)},
		{Name: chainSNAT, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource},
	}
}

// nftRule carries a digest of its own text, by which hasRules knows it again: the kernel's form of a rule is not ours.
type nftRule struct {
	exprs  []expr.Any
	digest []byte
}

func newRule(exprs ...[]expr.Any) nftRule {
	all := slices.Concat(exprs...)
	sum := sha256.New()
	for _, e := range all {
		fmt.Fprintf(sum, "%T%+v;", e, e)
	}
	return nftRule{all, []byte(hex.EncodeToString(sum.Sum(nil)[:8]))}
}

func (a *applier) nftRules() map[string][]nftRule {
	primary := a.primary.Attrs().Name
	rules := map[string][]nftRule{
		chainNodePort: {newRule(link(expr.MetaKeyIIFNAME, primary), destinationIsLocal(expr.CmpOpEq), setMark(ctMark))},
		chainMark:     {},
	}
	outward := slices.Concat(in(setPods, sourceOffset, false), in(setLocal, destOffset, true))
	if a.state.SNAT {
		rules[chainMark] = append(rules[chainMark], newRule(isOriginal(), outward, destinationIsLocal(expr.CmpOpNeq), setMark(ctMark)))
		rules[chainSNAT] = []nftRule{newRule(link(expr.MetaKeyOIFNAME, primary), outward, []expr.Any{
			&expr.Immediate{Register: register, Data: a.state.PrimaryAddress.AsSlice()},
			&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: register, FullyRandom: a.state.RandomPorts},
		})}
	}
	rules[chainMark] = append(rules[chainMark], newRule(in(setPods, sourceOffset, false), isMarked(), setMark(metaMark)))
	return rules
}

// found in the kernel.
type found struct {
	// whole: the table, its chains and sets are there, and the chains have the wanted rules.
	whole bool
	stale []string // sets that are there, with other elements
}

// readTable reads again before it says that something differs: what others commit meanwhile (kube-proxy does, for each
// Service) interrupts the reading of our table too, and entries are missed.
func readTable(conn *nftables.Conn, sets map[string][]netip.Prefix, rules map[string][]nftRule) (f found, err error) {
	const attempts = 3
	for range attempts {
		if f, err = readTableOnce(conn, sets, rules); err == nil && f.whole && len(f.stale) == 0 {
			return f, nil
		}
	}
	return f, err
}

func readTableOnce(conn *nftables.Conn, sets map[string][]netip.Prefix, rules map[string][]nftRule) (found, error) {
	f := found{}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return f, err
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }) {
		return f, nil
	}
	chainsWhole, err := hasRules(conn, rules)
	if err != nil || !chainsWhole {
		return f, err
	}
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		set, err := conn.GetSetByName(ownTable, name)
		if errors.Is(err, unix.ENOENT) {
			return f, nil
		}
		if err != nil {
			return f, err
		}
		present, err := conn.GetSetElements(set)
		if err != nil {
			return f, err
		}
		if !sameElements(present, elements(sets[name])) {
			f.stale = append(f.stale, name)
		}
	}
	f.whole = true
	return f, nil
}

func hasRules(conn *nftables.Conn, rules map[string][]nftRule) (bool, error) {
	for _, chain := range chains() {
		present, err := conn.GetRules(ownTable, &nftables.Chain{Name: chain.Name, Table: ownTable})
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if !slices.EqualFunc(present, rules[chain.Name], func(p *nftables.Rule, w nftRule) bool { return bytes.Equal(p.UserData, w.digest) }) {
			return false, nil
		}
	}
	return true, nil
}

func sameElements(a, b []nftables.SetElement) bool {
	keys := func(list []nftables.SetElement) []string {
		var out []string
		for _, e := range list {
			if e.IntervalEnd && bytes.Equal(e.Key, []byte{0, 0, 0, 0}) {
				continue // the kernel adds where the first interval does not start at 0.0.0.0
			}
			out = append(out, fmt.Sprintf("%v %t", e.Key, e.IntervalEnd))
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(keys(a), keys(b))
}

// elements of an interval set. Neighbouring prefixes are joined, as the kernel has no element that both ends and starts. An
// interval that reaches the last address has no end.
func elements(prefixes []netip.Prefix) []nftables.SetElement {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int { return a.Masked().Addr().Compare(b.Masked().Addr()) })
	var out []nftables.SetElement
	for i := 0; i < len(sorted); {
		first, last := sorted[i].Masked().Addr(), lastOf(sorted[i])
		for i++; i < len(sorted) && (!last.Next().IsValid() || sorted[i].Masked().Addr().Compare(last.Next()) <= 0); i++ {
			if l := lastOf(sorted[i]); l.Compare(last) > 0 {
				last = l
			}
		}
		out = append(out, nftables.SetElement{Key: first.AsSlice()})
		if end := last.Next(); end.IsValid() {
			out = append(out, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

func in(set string, offset uint32, invert bool) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Lookup{SourceRegister: register, SetName: set, Invert: invert},
	}
}

func link(key expr.MetaKey, name string) []expr.Any {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return []expr.Any{&expr.Meta{Key: key, Register: register}, &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}}
}

func destinationIsLocal(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: register, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: op, Register: register, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// isOriginal: the packet goes the way of the connection's first one.
func isOriginal() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{0}},
	}
}

func isMarked() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(Mark), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.NativeEndian.PutUint32(Mark)},
	}
}

type markKind int

const (
	ctMark markKind = iota
	metaMark
)

// setMark sets the one bit and leaves the others, which belong to others (amazon-vpc-cni-k8s #3872).
func setMark(kind markKind) []expr.Any {
	or := &expr.Bitwise{
		SourceRegister: register, DestRegister: register, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(^uint32(Mark)), Xor: binaryutil.NativeEndian.PutUint32(Mark),
	}
	if kind == ctMark {
		return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: register}, or, &expr.Ct{Key: expr.CtKeyMARK, Register: register, SourceRegister: true}}
	}
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: register}, or, &expr.Meta{Key: expr.MetaKeyMARK, Register: register, SourceRegister: true}}
}
