// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Present lists the policy rules of our priorities and the routes of the state's tables, as the kernel has them.
func Present(s State) (rules, routes []string, err error) {
	all, err := dump(func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_V4) })
	if err != nil {
		return nil, nil, fmt.Errorf("policy rules: %w", err)
	}
	for _, rule := range all {
		if ours(rule) {
			rules = append(rules, ruleKey(rule))
		}
	}
	tables := []int{s.PodTable}
	for _, e := range s.ENIs {
		tables = append(tables, e.Table)
	}
	names := map[int]string{}
	links, err := dump(netlink.LinkList)
	if err != nil {
		return rules, nil, fmt.Errorf("links: %w", err)
	}
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	for _, table := range tables {
		present, err := routesOf(table)
		if err != nil {
			return rules, routes, err
		}
		for _, route := range present {
			line := fmt.Sprintf("%d: %s", table, route.Dst)
			if route.Gw != nil {
				line += " via " + route.Gw.String()
			}
			routes = append(routes, line+" dev "+names[route.LinkIndex])
		}
	}
	return rules, routes, nil
}
