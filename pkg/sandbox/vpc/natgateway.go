// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// natLink is a NAT gateway's ENI in its namespace.
const natLink = "eth0"

// natGateway is a namespace that gives what reaches it its private address, and sends it back to the router. The internet
// gateway makes the public address of it.
type natGateway struct {
	netns           vishnetns.NsHandle
	private, public netip.Addr
}

// applyNATGateways keeps a namespace for each NAT gateway that passes packets.
func (n *Network) applyNATGateways(s aws.Snapshot) error {
	wanted := map[string]bool{}
	for _, g := range s.NATGateways {
		if g.State != "available" {
			continue
		}
		wanted[g.ID] = true
		if n.natGateways[g.ID] == nil {
			if err := n.addNATGateway(g); err != nil {
				return fmt.Errorf("NAT gateway %s: %w", g.ID, err)
			}
		}
	}
	for id, g := range n.natGateways {
		if wanted[id] {
			continue
		}
		g.close()
		delete(n.natGateways, id)
		if err := netns.Delete(n.path(id)); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) addNATGateway(gateway aws.NATGateway) (err error) {
	path := n.path(gateway.ID)
	if err := netns.Create(path); err != nil {
		return err
	}
	g := &natGateway{private: gateway.PrivateIP, public: gateway.PublicIP}
	defer func() {
		if err != nil {
			g.close()
			_ = netns.Delete(path)
		}
	}()
	if g.netns, err = vishnetns.GetFromPath(path); err != nil {
		return err
	}
	if err := netns.Do(path, becomeRouter); err != nil {
		return err
	}
	table := firewall{netns: int(g.netns)}
	if err := table.apply(g.rules()); err != nil {
		return err
	}
	n.natGateways[gateway.ID] = g
	return nil
}

// rules of a gateway: nobody talks to it, and nobody to those behind it unless they asked.
func (g *natGateway) rules() *ruleset {
	r := &ruleset{}
	input := r.chain("input")
	input.strict, input.hook = true, &hook{nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter}
	forward := r.chain("forward")
	forward.strict, forward.hook = true, &hook{nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter}
	forward.rule(connection(expr.CtStateBitNEW|expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept)
	translate := r.chain("translate")
	translate.hook = &hook{nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource}
	translate.rule([]expr.Any{
		&expr.Immediate{Register: register, Data: g.private.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: register},
	})
	return r
}

func (g *natGateway) close() {
	if g.netns.IsOpen() {
		g.netns.Close()
	}
}

// Translation is one connection through a NAT gateway.
type Translation struct {
	Source      netip.Addr `json:"source"`      // in the VPC, before translation
	SourcePort  uint16     `json:"sourcePort"`  //
	Destination netip.Addr `json:"destination"` // on the internet
	Public      netip.Addr `json:"public"`      // what the destination sees
	PublicPort  uint16     `json:"publicPort"`
}

// Translations lists what NAT gateways translate now or did lately, from their connection tracking.
func (n *Network) Translations() ([]Translation, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Translation
	var errs []error
	for id, g := range n.natGateways {
		translations, err := g.translations()
		if err != nil {
			errs = append(errs, fmt.Errorf("connection tracking of %s: %w", id, err))
		}
		out = append(out, translations...)
	}
	return out, errors.Join(errs...)
}

func (g *natGateway) translations() ([]Translation, error) {
	handle, err := netlink.NewHandleAt(g.netns, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	flows, err := handle.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		return nil, err
	}
	var out []Translation
	for _, flow := range flows {
		if private, _ := netip.AddrFromSlice(flow.Reverse.DstIP.To4()); private != g.private {
			continue
		}
		source, _ := netip.AddrFromSlice(flow.Forward.SrcIP.To4())
		destination, _ := netip.AddrFromSlice(flow.Forward.DstIP.To4())
		out = append(out, Translation{
			Source: source, SourcePort: flow.Forward.SrcPort, Destination: destination, Public: g.public, PublicPort: flow.Reverse.DstPort,
		})
	}
	return out, nil
}
