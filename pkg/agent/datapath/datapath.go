// SPDX-License-Identifier: Apache-2.0

// Package datapath is all that the kernel of a node must hold for its pods, but for the pods' own links: the ENIs' links,
// addresses and route tables, the policy rules and one nftables table.
//
//	table 512    one /32 a pod, written by the plugin
//	table 1000+d ENI d: its gateway on-link, default through it
//	rule 512     all -> table 512; a miss falls through
//	rule 1024    fwmark 0x80/0x80 -> main: what leaves by the primary ENI
//	rule 1536    from each /28 or /32 of an ENI -> its table
//
// Apply compares and changes the difference. It never flushes: traffic goes on while it works. A Keeper does so whenever the
// kernel tells of a change.
package datapath

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// Mark is the one bit of packet and connection marks that is ever written.
	Mark = 0x80

	priorityPods, priorityMark, priorityENI = 512, 1024, 1536
)

// State is what the kernel should hold.
type State struct {
	PrimaryMAC     net.HardwareAddr
	PrimaryAddress netip.Addr
	MTU            int
	PodTable       int
	ENIs           []ENI
	// Local destinations keep the pod's address: the VPC's CIDRs and what the user excludes.
	Local []netip.Prefix
	// SNAT gives traffic to other destinations the node's address.
	SNAT bool
	// RandomPorts of the translation.
	RandomPorts bool
	// Pods that hold an address. The plugin wires them; what somebody else takes away of it comes back.
	Pods []Pod
	// SysctlDir is where the kernel's settings of networks are writable; /proc/sys/net where it is empty. It is of the program that
	// writes, not of the node.
	SysctlDir string `json:"-"`
}

// Pod on the node.
type Pod struct {
	Address netip.Addr
	// Link is the name of the host's end.
	Link string
	// Starting pods are wired by the plugin at this moment: what they lack is made, and told to nobody, as nobody has changed it.
	Starting bool
}

// ENI that pods' traffic leaves by.
type ENI struct {
	MAC      net.HardwareAddr
	Table    int
	Address  netip.Addr
	Subnet   netip.Prefix
	Prefixes []netip.Prefix
}

// gateway of the subnet: AWS's router answers at its second address.
func (e ENI) gateway() netip.Addr { return e.Subnet.Masked().Addr().Next() }

func (s State) podPrefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, e := range s.ENIs {
		all = append(all, e.Prefixes...)
	}
	return all
}

// Apply makes the kernel hold the state and returns what it changed. What fails holds nothing else up: a node that lost an ENI
// serves the pods of the others.
func Apply(s State) (changes []Change, err error) {
	a := &applier{state: s}
	return a.apply()
}

// Compare returns what Apply would change.
func Compare(s State) (changes []Change, err error) {
	a := &applier{state: s, compareOnly: true}
	return a.apply()
}

func (a *applier) apply() (changes []Change, err error) {
	var errs []error
	for _, step := range []func() error{a.links, a.sysctls, a.routes, a.pods, a.rules, a.nftables} {
		errs = append(errs, step())
	}
	return a.changes, errors.Join(errs...)
}

type applier struct {
	state       State
	compareOnly bool
	primary     netlink.Link            // nil when it is missing
	enis        []netlink.Link          // of state.ENIs, in its order; nil where missing
	names       map[string]netlink.Link // all links
	changes     []Change
}

// ErrLinkMissing says that an ENI's link has not come up in the guest yet.
var ErrLinkMissing = errors.New("no link has this MAC address")

// HasLink tells whether an ENI's link is there.
func HasLink(mac string) (bool, error) {
	wanted, err := net.ParseMAC(mac)
	if err != nil {
		return false, err
	}
	_, err = linkByMAC(wanted)
	if errors.Is(err, ErrLinkMissing) {
		return false, nil
	}
	return err == nil, err
}

func linkByMAC(mac net.HardwareAddr) (netlink.Link, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	return withMAC(links, mac)
}

func withMAC(links []netlink.Link, mac net.HardwareAddr) (netlink.Link, error) {
	for _, link := range links {
		if slices.Equal(link.Attrs().HardwareAddr, mac) {
			return link, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", mac, ErrLinkMissing)
}

func (a *applier) links() error {
	a.enis, a.names = make([]netlink.Link, len(a.state.ENIs)), map[string]netlink.Link{}
	links, err := dump(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("links: %w", err)
	}
	for _, link := range links {
		a.names[link.Attrs().Name] = link
	}
	var errs []error
	if a.primary, err = withMAC(links, a.state.PrimaryMAC); err != nil {
		errs = append(errs, fmt.Errorf("primary ENI: %w", err))
	}
	for i, e := range a.state.ENIs {
		link, err := withMAC(links, e.MAC)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		a.enis[i] = link
		if err := a.link(e, link); err != nil {
			errs = append(errs, fmt.Errorf("link %s: %w", link.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

func (a *applier) link(e ENI, link netlink.Link) error {
	name := link.Attrs().Name
	if link.Attrs().MTU != a.state.MTU {
		if err := a.set(KindLink, fmt.Sprintf("%s MTU %d", name, a.state.MTU), func() error { return netlink.LinkSetMTU(link, a.state.MTU) }); err != nil {
			return fmt.Errorf("MTU %d: %w", a.state.MTU, err)
		}
	}
	addresses, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return err
	}
	has := slices.ContainsFunc(addresses, func(address netlink.Addr) bool { return address.IP.Equal(e.Address.AsSlice()) })
	if !has {
		// Without a route of the subnet in main: only pods' traffic leaves here, by the ENI's own table.
		address := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(e.Address, e.Subnet.Bits()), false), Flags: unix.IFA_F_NOPREFIXROUTE}
		if err := a.set(KindAddress, fmt.Sprintf("%s of %s", e.Address, name), func() error { return netlink.AddrAdd(link, address) }); err != nil {
			return fmt.Errorf("address %s: %w", e.Address, err)
		}
	}
	return a.up(link)
}

func (a *applier) up(link netlink.Link) error {
	if link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := a.set(KindLink, link.Attrs().Name+" up", func() error { return netlink.LinkSetUp(link) }); err != nil {
		return fmt.Errorf("setting it up: %w", err)
	}
	return nil
}

// sysctls: the node forwards, also where a link's own setting says otherwise, and takes on its primary ENI what it would
// answer by another (NodePort).
func (a *applier) sysctls() error {
	if a.primary == nil {
		return nil
	}
	type sysctl struct{ name, value string }
	// In this order: a write of ip_forward sets that of every link.
	wanted := []sysctl{{"ipv4/ip_forward", "1"}, {"ipv4/conf/" + a.primary.Attrs().Name + "/rp_filter", "2"}}
	for _, link := range append([]netlink.Link{a.primary}, a.enis...) {
		if link != nil {
			wanted = append(wanted, sysctl{"ipv4/conf/" + link.Attrs().Name + "/forwarding", "1"})
		}
	}
	for _, s := range wanted {
		name, value := s.name, s.value
		path := filepath.Join(cmp.Or(a.state.SysctlDir, "/proc/sys/net"), name)
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("sysctl net/%s: %w", name, err)
		}
		if strings.TrimSpace(string(content)) == value {
			continue
		}
		if err := a.set(KindSysctl, "net/"+name+"="+value, func() error { return os.WriteFile(path, []byte(value), 0o644) }); err != nil {
			return fmt.Errorf("sysctl net/%s=%s: the agent needs the node's /proc/sys/net writable, at the path that --sysctl-dir (SYSCTL_DIR) names: %w", name, value, err)
		}
	}
	return nil
}

// rules of our priorities are ours: others than the wanted ones go, after those are there, so that no packet falls between.
func (a *applier) rules() error {
	wanted := a.wantedRules()
	present, err := dump(func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("policy rules: %w", err)
	}
	var stale []netlink.Rule
	for _, rule := range present {
		if !ours(rule) {
			continue
		}
		if _, ok := wanted[ruleKey(rule)]; ok {
			delete(wanted, ruleKey(rule))
			continue
		}
		stale = append(stale, rule)
	}
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		if err := a.set(KindRule, key, func() error { return unless(netlink.RuleAdd(wanted[key]), unix.EEXIST) }); err != nil {
			return fmt.Errorf("adding rule %s: %w", key, err)
		}
	}
	for _, rule := range stale {
		if err := a.remove(KindRule, ruleKey(rule), func() error { return unless(netlink.RuleDel(&rule), unix.ENOENT) }); err != nil {
			return fmt.Errorf("removing rule %s: %w", ruleKey(rule), err)
		}
	}
	return nil
}

// unless forgets the error that says that there is nothing to do any more.
func unless(err, done error) error {
	if errors.Is(err, done) {
		return nil
	}
	return err
}

func ours(rule netlink.Rule) bool {
	return rule.Priority == priorityPods || rule.Priority == priorityMark || rule.Priority == priorityENI
}

func (a *applier) wantedRules() map[string]*netlink.Rule {
	wanted := map[string]*netlink.Rule{}
	add := func(priority, table int, change func(*netlink.Rule)) {
		rule := netlink.NewRule()
		rule.Priority, rule.Table, rule.Family = priority, table, netlink.FAMILY_V4
		change(rule)
		wanted[ruleKey(*rule)] = rule
	}
	add(priorityPods, a.state.PodTable, func(*netlink.Rule) {})
	add(priorityMark, unix.RT_TABLE_MAIN, func(r *netlink.Rule) {
		mask := uint32(Mark)
		r.Mark, r.Mask = Mark, &mask
	})
	for _, e := range a.state.ENIs {
		for _, prefix := range append([]netip.Prefix{host(e.Address)}, e.Prefixes...) {
			add(priorityENI, e.Table, func(r *netlink.Rule) { r.Src = ipNet(prefix, true) })
		}
	}
	return wanted
}

func ruleKey(r netlink.Rule) string {
	from := "all"
	if r.Src != nil {
		from = r.Src.String()
	}
	mask := uint32(0)
	if r.Mask != nil {
		mask = *r.Mask
	}
	key := fmt.Sprintf("%d: from %s fwmark %#x/%#x lookup %d", r.Priority, from, r.Mark, mask, r.Table)
	if r.Dst != nil || r.IifName != "" || r.OifName != "" || r.Invert { // none of ours
		key += fmt.Sprintf(" to %v iif %q oif %q not %t", r.Dst, r.IifName, r.OifName, r.Invert)
	}
	return key
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func ipNet(p netip.Prefix, masked bool) *net.IPNet {
	if masked {
		p = p.Masked()
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}
