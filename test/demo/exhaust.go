// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// sizes that the Deployment web is grown to. With the first, each zone has four nodes that take three ENIs each; the last one adds a fifth
// node, which has the CPUs and the max-pods for its pods, and not the addresses.
var sizes = []int{234, 294}

// exhaust lets a Deployment grow until pods wait for addresses that the node subnets do not have.
func (d *demo) exhaust(ctx context.Context) error {
	applied, err := d.sandbox.Apply(ctx, "PodNetwork", "NodeMigration")
	if err != nil {
		return err
	}
	d.step("applied %s: %s", d.examples, strings.Join(applied, ", "))
	if d.shop, err = d.sandbox.WorkloadIn(ctx, "shop"); err != nil {
		return err
	}
	if d.web, err = d.sandbox.Workload(ctx); err != nil {
		return err
	}
	if err := d.sandbox.WaitRunning(ctx, d.shop, nil); err != nil {
		return fmt.Errorf("waiting for the pods of %s: %w", d.shop.Key, err)
	}
	for _, size := range sizes {
		if d.web, err = d.sandbox.Scale(ctx, d.web, size); err != nil {
			return err
		}
		room, err := d.sandbox.NodeSubnets(ctx)
		if err != nil {
			return err
		}
		d.step("web grows to %d pods; %d of %d addresses of the node subnets are taken", size, room.Used, room.Usable)
		if size == sizes[len(sizes)-1] {
			break
		}
		if err := d.sandbox.WaitRunning(ctx, d.web, d.printPods); err != nil {
			return fmt.Errorf("waiting for the pods: %w", err)
		}
		if err := d.sandbox.WaitRoom(ctx, 2*eniAddresses); err != nil {
			return err
		}
	}
	stuck, err := d.sandbox.WaitStuck(ctx, d.web, d.printPods)
	if err != nil {
		return err
	}
	if d.before, err = d.look(ctx, "4-podnetwork.yaml"); err != nil {
		return err
	}
	d.before.waiting = stuck.Starting
	d.step("%d pods run, and %d wait for addresses: %d of %d are taken, and no zone has as many as an ENI brings (free: %s)",
		stuck.Running, stuck.Starting, d.before.room.Used, d.before.room.Usable, zones(d.before.room.Free))
	d.step("all that pod %s is told: %s", stuck.Pod, stuck.Event)
	return d.before.check()
}

func (d *demo) printPods(p scenario.Progress) {
	d.progress("pods: %3d pending, %3d starting, %3d running on %2d nodes", p.Pending, p.Starting, p.Running, p.Nodes)
}
