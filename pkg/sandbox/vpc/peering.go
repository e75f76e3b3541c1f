// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// peeringLink is the name of a peering's link at both routers.
func peeringLink(id string) string { return shortName("p", id) }

// applyPeerings keeps a link between the routers of two peered VPCs. The larger MTU is that of VPCs in one Region.
func (n *Network) applyPeerings(s aws.Snapshot) error {
	wanted := map[string]aws.Peering{}
	for _, p := range s.Peerings {
		wanted[peeringLink(p.ID)] = p
	}
	for _, r := range n.routers {
		err := netns.Do(r.path, func() error {
			links, err := netlinksafe.LinkList()
			if err != nil {
				return err
			}
			for _, link := range links {
				name := link.Attrs().Name
				if _, ok := wanted[name]; !ok && strings.HasPrefix(name, "p") {
					if err := netlink.LinkDel(link); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for name, p := range wanted {
		requester, accepter := n.routers[p.Requester], n.routers[p.Accepter]
		there := netns.Do(requester.path, func() error {
			_, err := netlink.LinkByName(name)
			return err
		})
		if there == nil {
			continue
		}
		if err := join(linkEnd{requester.path, name}, linkEnd{accepter.path, name}, MTU); err != nil {
			return fmt.Errorf("peering %s: %w", p.ID, err)
		}
	}
	return nil
}

// peers of a VPC: by link, the blocks of the VPC at its other end.
func peers(s aws.Snapshot, vpcID string) map[string][]netip.Prefix {
	blocks := map[string][]netip.Prefix{}
	for _, vpc := range s.VPCs {
		blocks[vpc.ID] = vpc.CIDRs
	}
	peers := map[string][]netip.Prefix{}
	for _, p := range s.Peerings {
		switch vpcID {
		case p.Requester:
			peers[peeringLink(p.ID)] = blocks[p.Accepter]
		case p.Accepter:
			peers[peeringLink(p.ID)] = blocks[p.Requester]
		}
	}
	return peers
}
