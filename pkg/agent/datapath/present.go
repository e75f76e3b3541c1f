// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Present lists the policy rules of our priorities, the routes of the ENIs' tables and those of pods, as the kernel has them.
func Present(s State) (rules, routes, pods []string, err error) {
	all, err := dump(func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_V4) })
	if err != nil {
		return nil, nil, nil, fmt.Errorf("policy rules: %w", err)
	}
	for _, rule := range all {
		if ours(rule) {
			rules = append(rules, ruleKey(rule))
		}
	}
	names := map[int]string{}
	links, err := dump(netlink.LinkList)
	if err != nil {
		return rules, nil, nil, fmt.Errorf("links: %w", err)
	}
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	for _, e := range s.ENIs {
		lines, err := linesOf(e.Table, names)
		if err != nil {
			return rules, routes, nil, err
		}
		routes = append(routes, lines...)
	}
	pods, err = linesOf(s.PodTable, names)
	return rules, routes, pods, err
}

func linesOf(table int, links map[int]string) ([]string, error) {
	routes, err := routesOf(table)
	lines := make([]string, 0, len(routes))
	for _, route := range routes {
		line := fmt.Sprintf("%d: %s", table, route.Dst)
		if route.Gw != nil {
			line += " via " + route.Gw.String()
		}
		lines = append(lines, line+" dev "+links[route.LinkIndex])
	}
	return lines, err
}
