// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// declared by the examples' PodNetwork.
var declared = netip.MustParsePrefix("100.64.0.0/17")

// move applies the PodNetwork, and a NodeMigration for the nodes that Karpenter does not own, and waits until all is over, while somebody
// uses a Service.
func (d *demo) move(ctx context.Context) (err error) {
	if d.old, err = d.sandbox.Instances(ctx); err != nil {
		return err
	}
	if d.requests, err = d.sandbox.StartRequests(ctx, d.shop.Key); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.endRequests()) }()
	readiness, err := d.sandbox.WatchReadiness(ctx, d.web)
	if err != nil {
		return err
	}
	start := time.Now()
	network, err := d.sandbox.ApplyKind(ctx, "PodNetwork")
	if err != nil {
		return err
	}
	d.step("applied PodNetwork/%s with spec.provision; a client in the VPC makes 20 requests a second at Service %s", network, d.shop.Key)
	said, err := d.sandbox.KeepVPCCNIAway(ctx, network)
	if err != nil {
		return err
	}
	d.step("it says: %s", said)
	d.step("applied the patch of aws-node that it names")
	if err := d.sandbox.WaitReady(ctx, network); err != nil {
		return err
	}
	d.step("PodNetwork/%s is ready: the VPC has %s, with a pod subnet and an ENIConfig in each zone", network, declared)
	migration, err := d.sandbox.ApplyKind(ctx, "NodeMigration")
	if err != nil {
		return err
	}
	d.step("applied NodeMigration/%s for the node group that Karpenter does not own", migration)
	err = d.sandbox.WaitMoved(ctx, scenario.MoveParams{
		PodNetwork: network, NodeMigration: migration, CIDR: declared, Workloads: []scenario.Workload{d.web, d.shop},
	}, d.printMoving)
	if err != nil {
		return err
	}
	d.moved = time.Since(start)
	fewest, err := readiness.Fewest()
	if err != nil {
		return err
	}
	d.step("all %d pods are in %s, and the %d old nodes are replaced; at the least %d pods of web were ready", d.web.Replicas+d.shop.Replicas, declared, len(d.old), fewest)
	if budget := d.web.Replicas * 3 / 4; fewest < budget {
		return fmt.Errorf("only %d pods of web were ready at a time: its PodDisruptionBudget says %d", fewest, budget)
	}
	return nil
}

func (d *demo) printMoving(m scenario.Moving) {
	answered, failures := d.requests.Count()
	blocked := ""
	if m.Blocked != "" {
		blocked = ", waits: " + m.Blocked
	}
	d.progress("Karpenter's nodes: %2d old, %2d new; node group: %d of %d done%s; pods: %3d old, %3d moved, %2d without an address; requests: %d answered, %d failed",
		m.Outdated, m.Current, m.OthersDone, m.Others, blocked, m.Staying, m.Moved, m.Waiting, answered, len(failures))
}

// endRequests objects to any that failed: the Service's pods go one after the other, and say so before.
func (d *demo) endRequests() error {
	err := d.requests.Stop()
	answered, failures := d.requests.Count()
	d.step("%d requests at Service %s were answered, %d failed", answered, d.shop.Key, len(failures))
	switch {
	case err != nil:
		return err
	case answered == 0:
		return fmt.Errorf("no request at Service %s was answered", d.shop.Key)
	case len(failures) > 0:
		return fmt.Errorf("%d requests failed, the first: %s", len(failures), failures[0])
	}
	return nil
}

// more pods than there were addresses for.
const more = 60

// growOn lets the Deployment grow on, as it could not before, and compares the two states. The Node objects of the node group go meanwhile:
// Kubernetes gives a node that says nothing more 40 seconds.
func (d *demo) growOn(ctx context.Context) error {
	start := time.Now()
	var err error
	if d.web, err = d.sandbox.Scale(ctx, d.web, d.web.Replicas+more); err != nil {
		return err
	}
	d.step("web grows on to %d pods", d.web.Replicas)
	if err := d.sandbox.WaitRunning(ctx, d.web, d.printPods); err != nil {
		return fmt.Errorf("waiting for the pods: %w", err)
	}
	d.running = time.Since(start)
	d.step("all %d pods run", d.web.Replicas)
	if d.after, err = d.look(ctx, ""); err != nil {
		return err
	}
	printComparison(d.out, d.before, d.after)
	return d.after.improves(d.before)
}
