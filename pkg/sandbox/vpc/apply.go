// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// Apply makes the networks what the snapshot says, by difference.
func (n *Network) Apply(s aws.Snapshot) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := errors.Join(n.applyInstances(s), n.applyNATGateways(s), n.applyRouters(s)); err != nil {
		return err
	}
	if err := n.applyPeerings(s); err != nil {
		return err
	}
	for _, vpc := range s.VPCs {
		if err := n.applyVPC(n.routers[vpc.ID], scope(s, vpc.ID), peers(s, vpc.ID)); err != nil {
			return fmt.Errorf("router of %s: %w", vpc.ID, err)
		}
	}
	return n.applyInternet(s)
}

// applyVPC makes a router what its part of the snapshot says.
func (n *Network) applyVPC(r *router, s aws.Snapshot, peers map[string][]netip.Prefix) error {
	cables := n.cables(s)
	if err := r.applyCables(cables); err != nil {
		return err
	}
	if err := netns.Do(r.path, func() error { return errors.Join(applyGateways(s), r.applyRoutes(s, cables, peers)) }); err != nil {
		return err
	}
	r.metadata.setLimits(s)
	if err := r.applyRules(s, cables, peers); err != nil {
		return err
	}
	return r.applyHolders(cables)
}

// applyInstances keeps a namespace for each instance that runs, from its boot to its end.
func (n *Network) applyInstances(s aws.Snapshot) error {
	living := map[string]bool{}
	for _, instance := range s.Instances {
		switch instance.State {
		case "running":
			living[instance.ID] = true
			if _, err := os.Stat(n.InstancePath(instance.ID)); err == nil {
				continue
			}
			if err := netns.Create(n.InstancePath(instance.ID)); err != nil {
				return fmt.Errorf("instance %s: %w", instance.ID, err)
			}
		case "pending", "shutting-down":
			living[instance.ID] = true // not there yet, or still there
		}
	}
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "i-") && !living[entry.Name()] {
			if err := netns.Delete(n.path(entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
