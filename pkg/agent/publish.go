// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

// publish makes the kernel right, then tells the plugin. ENIs whose link is not there yet are left out. The kernel keeps the
// rules of addresses that are being given back, as long as they are there. When the kernel could not be made right the plugin
// hears of what is short and of what it must not use any more, and of no address that is new.
func (a *Agent) publish(ctx context.Context, s settings) error {
	doc := &pool.Document{
		Node: a.opts.NodeName, PrimaryAddress: a.instance.PrimaryAddress, MTU: a.opts.MTU, PodTable: pool.PodTable,
		CooldownSeconds: int(s.cooldown.Seconds()), Shortage: a.lacking,
	}
	state := datapath.State{
		PrimaryMAC: a.instance.PrimaryMAC, PrimaryAddress: a.instance.PrimaryAddress, MTU: a.opts.MTU, PodTable: pool.PodTable,
		Local: append(slices.Clone(a.instance.VPCCIDRs), s.excluded...), SNAT: s.snat, RandomPorts: s.randomPorts,
	}
	a.linkless = nil
	offered := a.source.Pool()
	for i, e := range a.source.ENIs() {
		there, err := a.hasLink(e)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		cidr := e.SubnetCIDR
		if !cidr.IsValid() {
			if cidr, err = a.enis.SubnetCIDR(ctx, e.Subnet); err != nil {
				return err
			}
		}
		mac, err := net.ParseMAC(e.MAC)
		if err != nil {
			return fmt.Errorf("ENI %s: %w", e.ID, err)
		}
		table := pool.ENITable(e.DeviceIndex)
		state.ENIs = append(state.ENIs, datapath.ENI{MAC: mac, Table: table, Address: e.Primary, Subnet: cidr, Prefixes: e.Prefixes})
		doc.ENIs = append(doc.ENIs, pool.ENI{
			ID: e.ID, MAC: e.MAC, DeviceIndex: e.DeviceIndex, RouteTable: table, Subnet: e.Subnet, SubnetCIDR: cidr, PrimaryAddress: e.Primary, Prefixes: offered[i].Prefixes,
		})
	}
	err := errors.Join(a.keep(state), a.kernel.Apply(state))
	if err != nil {
		err = &eni.Error{Reason: dataPathFailed, Message: fmt.Sprintf("the kernel cannot be made right for pods: %v", err)}
		before, _ := pool.Read(a.opts.StateDir) // nil when there is none
		doc.Confine(before)
	}
	if err := errors.Join(err, a.write(doc)); err != nil {
		return err
	}
	return a.announce(doc)
}

// announce makes the node Ready, once there are addresses for its pods.
func (a *Agent) announce(doc *pool.Document) error {
	if doc.Capacity() == 0 || a.configured {
		return nil
	}
	if err := writeConfList(a.opts.CNIConfDir, a.opts.StateDir); err != nil {
		return err
	}
	a.configured = true
	a.log.Info("the node can serve pods", "addresses", doc.Capacity())
	return nil
}

// hasLink tells whether an ENI's link is in the guest: a while after its attachment. When it comes, the kernel wakes the loop.
func (a *Agent) hasLink(e eni.ENI) (bool, error) {
	there, err := datapath.HasLink(e.MAC)
	if err != nil {
		return false, fmt.Errorf("looking for the link of ENI %s: %w", e.ID, err)
	}
	since, awaited := a.linkSince[e.ID]
	switch {
	case there:
		delete(a.linkSince, e.ID)
	case !awaited:
		a.linkSince[e.ID] = time.Now()
		a.log.Info("waiting for the link of an ENI", "eni", e.ID, "mac", e.MAC)
	case time.Since(since) > linkTimeout:
		a.linkless = &eni.Error{Reason: "LinkMissing", Message: fmt.Sprintf("ENI %s with MAC %s is attached, but its link has not appeared within %s", e.ID, e.MAC, linkTimeout)}
	}
	return there, nil
}

// write publishes the document when it differs.
func (a *Agent) write(doc *pool.Document) error {
	before, err := pool.Read(a.opts.StateDir)
	doc.Version = pool.Version
	if err != nil || fmt.Sprint(*before, before.Shortage) != fmt.Sprint(*doc, doc.Shortage) {
		if err := pool.Write(a.opts.StateDir, doc); err != nil {
			return err
		}
	}
	a.published = doc.Prefixes()
	return nil
}

// writeConfList makes the container runtime use the plugin, and so the node Ready. It comes last, when pods can be served.
func writeConfList(dir, stateDir string) error {
	content := fmt.Appendf(nil, `{
  "cniVersion": "1.0.0",
  "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
  "name": "dovetail",
  "plugins": [
    {"type": %q, "stateDir": %q},
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
  ]
}
`, cni.Type, stateDir)
	if err := pool.WriteFileAtomically(filepath.Join(dir, "10-dovetail.conflist"), content, 0o600); err != nil {
		return fmt.Errorf("writing the CNI configuration: %w", err)
	}
	return nil
}
