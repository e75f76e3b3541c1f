// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	vishnetns "github.com/vishvananda/netns"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// uplink is a router's end towards the internet.
const uplink = "inet"

// router of a VPC.
type router struct {
	path     string
	netns    vishnetns.NsHandle
	firewall firewall
	tables   map[string]int // the kernel's tables of route tables
	metadata metadata
	holders  map[netip.Prefix]string // the links of those who hold addresses
}

// shortName fits an id into the kernel's 15 characters.
func shortName(prefix, id string) string { return prefix + id[max(0, len(id)-13):] }

// applyRouters keeps a router for each VPC.
func (n *Network) applyRouters(s aws.Snapshot) error {
	wanted := map[string]bool{}
	for _, vpc := range s.VPCs {
		wanted[vpc.ID] = true
		if n.routers[vpc.ID] != nil {
			continue
		}
		if err := n.addRouter(vpc.ID); err != nil {
			return fmt.Errorf("router of %s: %w", vpc.ID, err)
		}
	}
	for id, r := range n.routers {
		if wanted[id] {
			continue
		}
		r.close()
		delete(n.routers, id)
		err := netns.Do(n.InternetPath(), func() error { return deleteLink(shortName("v", id)) })
		if err := errors.Join(err, netns.Delete(r.path)); err != nil {
			return fmt.Errorf("router of %s: %w", id, err)
		}
	}
	return nil
}

func (n *Network) addRouter(vpcID string) (err error) {
	r := &router{path: n.RouterPath(vpcID), tables: map[string]int{}}
	if err := netns.Create(r.path); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.close()
			_ = netns.Delete(r.path)
		}
	}()
	err = netns.Do(r.path, func() error { return errors.Join(becomeRouter(), addAddress("lo", MetadataAddress+"/32")) })
	if err != nil {
		return err
	}
	if err := join(linkEnd{n.InternetPath(), shortName("v", vpcID)}, linkEnd{r.path, uplink}, InternetMTU); err != nil {
		return err
	}
	if r.netns, err = vishnetns.GetFromPath(r.path); err != nil {
		return err
	}
	r.firewall.netns = int(r.netns)
	if err := n.serveMetadata(vpcID, r); err != nil {
		return err
	}
	n.routers[vpcID] = r
	return nil
}

func (r *router) close() {
	r.metadata.close()
	if r.netns.IsOpen() {
		r.netns.Close()
	}
}

// scope of a VPC in a snapshot.
func scope(s aws.Snapshot, vpcID string) aws.Snapshot {
	return aws.Snapshot{
		VPCs:             keep(s.VPCs, func(v aws.VPC) bool { return v.ID == vpcID }),
		Subnets:          keep(s.Subnets, func(n aws.Subnet) bool { return n.VPCID == vpcID }),
		RouteTables:      keep(s.RouteTables, func(t aws.RouteTable) bool { return t.VPCID == vpcID }),
		InternetGateways: keep(s.InternetGateways, func(g aws.InternetGateway) bool { return g.VPCID == vpcID }),
		NATGateways:      keep(s.NATGateways, func(g aws.NATGateway) bool { return g.VPCID == vpcID }),
		SecurityGroups:   keep(s.SecurityGroups, func(g aws.SecurityGroup) bool { return g.VPCID == vpcID }),
		Instances:        keep(s.Instances, func(i aws.Instance) bool { return i.VPCID == vpcID }),
		Interfaces:       keep(s.Interfaces, func(i aws.Interface) bool { return i.VPCID == vpcID }),
	}
}

func keep[T any](all []T, wanted func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(all), func(t T) bool { return !wanted(t) })
}
