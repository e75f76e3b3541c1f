// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func routesOf(table int) ([]netlink.Route, error) {
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("route table %d: %w", table, err)
	}
	return routes, nil
}

// routes of each ENI's table, and the one of main that the kernel adds with an address that somebody else configured: by it
// the node itself would send to the pods' subnet from an ENI that is not its own.
func (a *applier) routes() error {
	var errs []error
	for i, e := range a.state.ENIs {
		if a.enis[i] != nil {
			errs = append(errs, a.eniTable(e, a.enis[i].Attrs().Index), a.noSubnetInMain(e, a.enis[i].Attrs().Index))
		}
	}
	return errors.Join(errs...)
}

// eniTable has what is wanted before what is not goes.
func (a *applier) eniTable(e ENI, index int) error {
	wanted := []netlink.Route{
		{Table: e.Table, LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: ipNet(host(e.gateway()), true)},
		{Table: e.Table, LinkIndex: index, Gw: e.gateway().AsSlice(), Flags: int(netlink.FLAG_ONLINK), Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0"), true)},
	}
	present, err := routesOf(e.Table)
	if err != nil {
		return err
	}
	for _, route := range wanted {
		if slices.ContainsFunc(present, func(p netlink.Route) bool { return same(route, p) }) {
			continue
		}
		if err := a.set(KindRoute, inTable(route, e.Table), func() error { return netlink.RouteReplace(&route) }); err != nil {
			return fmt.Errorf("adding route %s to table %d: %w", route.Dst, e.Table, err)
		}
	}
	for _, route := range present {
		if slices.ContainsFunc(wanted, func(w netlink.Route) bool { return same(w, route) }) {
			continue
		}
		// Not there: the wanted one took its place.
		if err := a.remove(KindRoute, inTable(route, e.Table), func() error { return unless(netlink.RouteDel(&route), unix.ESRCH) }); err != nil {
			return fmt.Errorf("removing route %s from table %d: %w", route.Dst, e.Table, err)
		}
	}
	return nil
}

func (a *applier) noSubnetInMain(e ENI, index int) error {
	present, err := routesOf(unix.RT_TABLE_MAIN)
	if err != nil {
		return err
	}
	for _, route := range present {
		if route.LinkIndex != index || route.Dst == nil || route.Dst.String() != e.Subnet.Masked().String() {
			continue
		}
		if err := a.remove(KindRoute, inTable(route, unix.RT_TABLE_MAIN), func() error { return unless(netlink.RouteDel(&route), unix.ESRCH) }); err != nil {
			return fmt.Errorf("removing route %s from main: %w", route.Dst, err)
		}
	}
	return nil
}

func inTable(route netlink.Route, table int) string {
	return fmt.Sprintf("%s in table %d", route.Dst, table)
}

func same(a, b netlink.Route) bool {
	return a.LinkIndex == b.LinkIndex && a.Gw.Equal(b.Gw) && fmt.Sprint(a.Dst) == fmt.Sprint(b.Dst)
}

// pods' links are up and have their routes. Where there is no link, the plugin is at work: it adds the same.
func (a *applier) pods() error {
	if len(a.state.Pods) == 0 {
		return nil
	}
	present, err := routesOf(a.state.PodTable)
	if err != nil {
		return err
	}
	routed := map[string]int{}
	for _, route := range present {
		routed[fmt.Sprint(route.Dst)] = route.LinkIndex
	}
	var errs []error
	for _, pod := range a.state.Pods {
		link := a.names[pod.Link]
		if link == nil {
			continue
		}
		told := len(a.changes)
		if err := a.pod(pod, link, routed); err != nil && !errors.Is(err, unix.ENODEV) { // it ended in the meantime
			errs = append(errs, fmt.Errorf("pod %s at %s: %w", pod.Address, pod.Link, err))
		}
		if pod.Starting {
			a.changes = a.changes[:told]
		}
	}
	return errors.Join(errs...)
}

func (a *applier) pod(pod Pod, link netlink.Link, routed map[string]int) error {
	if err := a.up(link); err != nil {
		return err
	}
	route := netlink.Route{
		Table: a.state.PodTable, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Src: a.state.PrimaryAddress.AsSlice(), Dst: ipNet(host(pod.Address), true),
	}
	if routed[route.Dst.String()] == route.LinkIndex {
		return nil
	}
	if err := a.set(KindRoute, inTable(route, a.state.PodTable), func() error { return netlink.RouteReplace(&route) }); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	return nil
}
