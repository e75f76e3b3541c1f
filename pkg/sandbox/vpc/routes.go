// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

const (
	// routeProtocol marks the routes that Apply owns.
	routeProtocol = 99
	// rulePriority of the rules that lead from a mark to a route table.
	rulePriority = 1000
	// firstTable is the kernel's table of the first route table; its number is the mark as well.
	firstTable = 1001
	mainTable  = unix.RT_TABLE_MAIN
)

// applyRoutes keeps, in the main table, a route to each address and prefix, and swallows what is for the rest of the VPC:
// nothing answers ARP for an address that nobody holds, and no packet for it leaves. Each route table is a table of the
// kernel's, for the packets with its mark (see addMarks); what it leaves to "local" goes on to the main one.
func (r *router) applyRoutes(s aws.Snapshot, cables map[string]cable, peers map[string][]netip.Prefix) error {
	wanted := routes{}
	for name, c := range cables {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		wanted.add(mainTable, netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(host(c.eni.Primary)), Scope: netlink.SCOPE_LINK})
		for _, p := range addressesOf(c.eni)[1:] {
			route, err := through(name, c.eni.Primary, p)
			if err != nil {
				return err
			}
			wanted.add(mainTable, route)
		}
	}
	for _, vpc := range s.VPCs {
		for _, cidr := range vpc.CIDRs {
			wanted.add(mainTable, netlink.Route{Dst: ipNet(cidr), Type: unix.RTN_BLACKHOLE})
		}
	}
	r.numberTables(s)
	for _, table := range s.RouteTables {
		if err := wanted.addTable(r.tables[table.ID], table, s, cables, peers); err != nil {
			return fmt.Errorf("route table %s: %w", table.ID, err)
		}
	}
	return errors.Join(wanted.apply(), r.applyTableRules())
}

// numberTables gives each route table the least number that is free, for as long as it lives.
func (r *router) numberTables(s aws.Snapshot) {
	wanted := map[string]bool{}
	for _, table := range s.RouteTables {
		wanted[table.ID] = true
	}
	used := map[int]bool{}
	for id, number := range r.tables {
		if !wanted[id] {
			delete(r.tables, id)
		} else {
			used[number] = true
		}
	}
	next := firstTable
	for _, table := range s.RouteTables {
		if r.tables[table.ID] != 0 {
			continue
		}
		for used[next] {
			next++
		}
		r.tables[table.ID], used[next] = next, true
	}
}

// addTable adds what a route table says. A target that is not there, and no route, swallow packets, as EC2's router does.
func (w routes) addTable(number int, table aws.RouteTable, s aws.Snapshot, cables map[string]cable, peers map[string][]netip.Prefix) error {
	w.add(number, netlink.Route{Dst: ipNet(everywhere), Type: unix.RTN_BLACKHOLE})
	interfaces := map[string]string{} // by NAT gateway
	for _, gateway := range s.NATGateways {
		interfaces[gateway.ID] = gateway.InterfaceID
	}
	for _, route := range table.Routes {
		kernels := netlink.Route{Dst: ipNet(route.Destination), Type: unix.RTN_BLACKHOLE}
		kind, _, _ := strings.Cut(route.Target, "-")
		var err error
		switch {
		case route.Blackhole:
		case route.Target == "local":
			kernels.Type = unix.RTN_THROW
		case kind == "igw":
			kernels, err = through(uplink, neighbor, route.Destination)
		case kind == "pcx":
			if _, ok := peers[peeringLink(route.Target)]; ok {
				kernels, err = through(peeringLink(route.Target), neighbor, route.Destination)
			}
		default:
			eni := route.Target
			if kind == "nat" {
				eni = interfaces[route.Target]
			}
			if c, ok := cables[RouterEnd(eni)]; ok {
				kernels, err = through(RouterEnd(eni), c.eni.Primary, route.Destination)
			}
		}
		if err != nil {
			return err
		}
		w.add(number, kernels)
	}
	return nil
}

// applyTableRules leads each mark to its table.
func (r *router) applyTableRules() error {
	wanted := map[int]bool{}
	for _, number := range r.tables {
		wanted[number] = true
	}
	present, err := netlinksafe.RuleListFiltered(netlink.FAMILY_V4, &netlink.Rule{Priority: rulePriority}, netlink.RT_FILTER_PRIORITY)
	if err != nil {
		return err
	}
	for _, rule := range present {
		if wanted[rule.Table] {
			delete(wanted, rule.Table)
		} else if err := netlink.RuleDel(&rule); err != nil {
			return fmt.Errorf("removing the rule for table %d: %w", rule.Table, err)
		}
	}
	for number := range wanted {
		rule := netlink.NewRule()
		rule.Family, rule.Priority, rule.Mark, rule.Table = netlink.FAMILY_V4, rulePriority, uint32(number), number
		if err := netlink.RuleAdd(rule); err != nil {
			return fmt.Errorf("adding the rule for table %d: %w", number, err)
		}
	}
	return nil
}

// routes that a namespace should have, by table and destination.
type routes map[string]netlink.Route

// add a route, in place of one of the same destination.
func (w routes) add(table int, route netlink.Route) {
	route.Table, route.Protocol = table, routeProtocol
	if route.Type == 0 {
		route.Type = unix.RTN_UNICAST
	}
	w[routeKey(route)] = route
}

// apply makes the routes of the calling thread's namespace what they should be, by difference.
func (w routes) apply() error {
	filter := &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_UNSPEC}
	present, err := netlinksafe.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, route := range present {
		key := routeKey(route)
		if wanted, ok := w[key]; !ok {
			if err := netlink.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("removing the route to %s: %w", key, err)
			}
		} else if hop(wanted) == hop(route) {
			there[key] = true
		}
	}
	for key, route := range w {
		if there[key] {
			continue
		}
		if err := netlink.RouteReplace(&route); err != nil {
			return fmt.Errorf("adding the route to %s: %w", key, err)
		}
	}
	return nil
}

func routeKey(r netlink.Route) string {
	destination := everywhere.String()
	if r.Dst != nil {
		destination = r.Dst.String()
	}
	return fmt.Sprintf("%s in table %d", destination, r.Table)
}

// hop is where a route leads.
func hop(r netlink.Route) string {
	if r.Type != unix.RTN_UNICAST {
		return fmt.Sprint(r.Type)
	}
	return fmt.Sprint(r.LinkIndex, " ", r.Gw)
}
