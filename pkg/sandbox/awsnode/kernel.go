// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

const (
	// linkTimeout is how long an attached ENI's link may take to appear.
	linkTimeout = 30 * time.Second
	// afterDNAT is a priority of nftables.
	afterDNAT = -90
)

// kernel makes routes and rules, and returns the ENIs whose links are there. Pods of the primary ENI need no route of their own:
// they leave as the node does.
func (d *Daemon) kernel(ctx context.Context, enis []eni.ENI, subnet netip.Prefix) ([]eni.ENI, error) {
	state := datapath.State{
		PrimaryMAC: d.instance.PrimaryMAC, PrimaryAddress: d.instance.PrimaryAddress, MTU: mtu, PodTable: pool.PodTable, Local: d.instance.VPCCIDRs,
	}
	present := enis[:1:1]
	for _, e := range enis[1:] {
		there, err := awaitLink(ctx, e)
		if err != nil {
			return nil, err
		}
		if !there {
			d.log.Warn("an attached ENI has no link yet", "eni", e.ID)
			continue
		}
		mac, err := net.ParseMAC(e.MAC)
		if err != nil {
			return nil, fmt.Errorf("ENI %s: %w", e.ID, err)
		}
		state.ENIs = append(state.ENIs, datapath.ENI{MAC: mac, Table: pool.ENITable(e.DeviceIndex), Address: e.Primary, Subnet: subnet, Prefixes: e.Prefixes})
		present = append(present, e)
	}
	changes, err := datapath.Apply(state)
	for _, change := range changes {
		d.log.Info("datapath", "change", change.String())
	}
	if err != nil {
		return nil, err
	}
	return present, d.translate()
}

func awaitLink(ctx context.Context, e eni.ENI) (there bool, err error) {
	for deadline := time.Now().Add(linkTimeout); ; {
		there, err = datapath.HasLink(e.MAC)
		if there || err != nil || time.Now().After(deadline) {
			return there, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// translate gives what pods send out of the VPC the node's address. The mark takes it to the primary ENI by rule 1024, as
// aws-node's own rules do; they are in iptables there.
//
//	table ip aws-node
//	chain mark { type filter hook prerouting priority -90
//	    iifname dvt* ip daddr CIDR return                   for each block of the VPC
//	    iifname dvt* ct direction original meta mark set mark | 0x80 }
//	chain snat { type nat hook postrouting priority srcnat
//	    oifname PRIMARY mark & 0x80 == 0x80 snat to NODE fully-random }
func (d *Daemon) translate() error {
	if slices.Equal(d.translated, d.instance.VPCCIDRs) {
		return nil
	}
	primary, err := d.primaryLink()
	if err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "aws-node"}
	conn.AddTable(table) // so that there is one to delete, the first time too
	conn.DelTable(table)
	conn.AddTable(table)
	mark := conn.AddChain(&nftables.Chain{Table: table, Name: "mark", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(afterDNAT)})
	fromPod := ifname(expr.MetaKeyIIFNAME, cni.HostPrefix, len(cni.HostPrefix))
	for _, cidr := range d.instance.VPCCIDRs {
		conn.AddRule(&nftables.Rule{Table: table, Chain: mark, Exprs: slices.Concat(fromPod, to(cidr), []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}})})
	}
	conn.AddRule(&nftables.Rule{Table: table, Chain: mark, Exprs: slices.Concat(fromPod, []expr.Any{
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(^uint32(datapath.Mark)), Xor: binaryutil.NativeEndian.PutUint32(datapath.Mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	})})
	snat := conn.AddChain(&nftables.Chain{Table: table, Name: "snat", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	conn.AddRule(&nftables.Rule{Table: table, Chain: snat, Exprs: slices.Concat(ifname(expr.MetaKeyOIFNAME, primary, unix.IFNAMSIZ), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(datapath.Mark), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(datapath.Mark)},
		&expr.Immediate{Register: 1, Data: d.instance.PrimaryAddress.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, FullyRandom: true},
	})})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: replacing table %s: %w", table.Name, err)
	}
	d.translated = d.instance.VPCCIDRs
	return nil
}

func (d *Daemon) primaryLink() (string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return "", err
	}
	for _, link := range links {
		if slices.Equal(link.Attrs().HardwareAddr, d.instance.PrimaryMAC) {
			return link.Attrs().Name, nil
		}
	}
	return "", fmt.Errorf("primary ENI %s: %w", d.instance.PrimaryMAC, datapath.ErrLinkMissing)
}

// ifname compares so many bytes of a link's name.
func ifname(key expr.MetaKey, name string, bytes int) []expr.Any {
	data := make([]byte, bytes)
	copy(data, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}}
}

// to an address in the CIDR.
func to(cidr netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(cidr.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: cidr.Masked().Addr().AsSlice()},
	}
}
