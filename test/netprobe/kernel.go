// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dumpAttempts bounds how often a dump that the kernel marks as interrupted is asked for again.
const dumpAttempts = 10

// printKernel prints what an agent programs: policy rules, routes of all tables, and nftables of its own with the
// handles that a rebuilt rule would change. Counters are left out: packets change them, not programs.
func printKernel(context.Context, settings, string) error {
	var facts []string
	for _, list := range []func() ([]string, error){policyRules, routes, nftablesFacts} {
		found, err := list()
		if err != nil {
			return err
		}
		facts = append(facts, found...)
	}
	slices.Sort(facts)
	for _, fact := range facts {
		fmt.Println(fact)
	}
	return nil
}

// dump repeats a netlink dump that changed under the reader's hands.
func dump[T any](list func() (T, error)) (T, error) {
	var found T
	var err error
	for range dumpAttempts {
		if found, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return found, err
		}
	}
	return found, err
}

func policyRules() ([]string, error) {
	rules, err := dump(func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("listing rules: %w", err)
	}
	var facts []string
	for _, rule := range rules {
		fact := fmt.Sprintf("rule %d: from %s to %s lookup %d", rule.Priority, network(rule.Src), network(rule.Dst), rule.Table)
		if rule.Mark != 0 {
			fact += fmt.Sprintf(" fwmark %#x", rule.Mark)
		}
		if rule.IifName != "" {
			fact += " iif " + rule.IifName
		}
		facts = append(facts, fact)
	}
	return facts, nil
}

func routes() ([]string, error) {
	found, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	names := map[int]string{}
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	var facts []string
	for _, route := range found {
		fact := fmt.Sprintf("route table %d: %s", route.Table, network(route.Dst))
		if route.Gw != nil {
			fact += " via " + route.Gw.String()
		}
		facts = append(facts, fmt.Sprintf("%s dev %s scope %s type %d", fact, names[route.LinkIndex], route.Scope, route.Type))
	}
	return facts, nil
}

func network(n *net.IPNet) string {
	if n == nil || n.IP.IsUnspecified() {
		return "all"
	}
	return n.String()
}

func nftablesFacts() ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, fmt.Errorf("listing nftables: %w", err)
	}
	var facts []string
	for _, table := range tables {
		inTable, err := tableFacts(conn, table)
		if err != nil {
			return nil, fmt.Errorf("table ip %s: %w", table.Name, err)
		}
		facts = append(facts, inTable...)
	}
	return facts, nil
}

func tableFacts(conn *nftables.Conn, table *nftables.Table) ([]string, error) {
	prefix := "nft " + table.Name
	facts := []string{prefix}
	sets, err := conn.GetSets(table)
	if err != nil {
		return nil, fmt.Errorf("listing sets: %w", err)
	}
	for _, set := range sets {
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return nil, fmt.Errorf("set %s: %w", set.Name, err)
		}
		for _, element := range elements {
			fact := fmt.Sprintf("%s set %s: %s", prefix, set.Name, hex.EncodeToString(element.Key))
			if element.IntervalEnd {
				fact += " end"
			}
			facts = append(facts, fact)
		}
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, fmt.Errorf("listing chains: %w", err)
	}
	for _, chain := range chains {
		if chain.Table.Name != table.Name {
			continue
		}
		rules, err := conn.GetRules(table, chain)
		if err != nil {
			return nil, fmt.Errorf("chain %s: %w", chain.Name, err)
		}
		facts = append(facts, fmt.Sprintf("%s chain %s", prefix, chain.Name))
		for _, rule := range rules {
			facts = append(facts, fmt.Sprintf("%s chain %s rule handle %d: %s", prefix, chain.Name, rule.Handle, expressions(rule.Exprs)))
		}
	}
	return facts, nil
}

func expressions(exprs []expr.Any) string {
	var words []string
	for _, e := range exprs {
		if _, counter := e.(*expr.Counter); counter {
			continue
		}
		words = append(words, fmt.Sprintf("%T%+v", e, reflect.Indirect(reflect.ValueOf(e))))
	}
	return strings.Join(words, " ")
}
