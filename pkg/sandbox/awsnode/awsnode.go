// SPDX-License-Identifier: Apache-2.0

// Package awsnode stands in for aws-node, the Amazon VPC CNI's daemon, as a new EKS cluster has it: secondary addresses of the
// node's own subnet, on the primary ENI and on further ones, and WARM_ENI_TARGET whole ENIs kept free. It is there for clusters
// that have no pod network yet, and asks neither the cluster nor Dovetail for anything.
//
// What it takes of a subnet, when it takes it and how it gives up are those of v1.23.1: one action each tick of five seconds, all
// that an ENI holds or else one address, two minutes of rest after a subnet had none, and a pod without an address is told nothing
// but that. It knows only WARM_ENI_TARGET of its settings, and gives no ENI back. Pods are wired by Dovetail's plugin with a state
// directory of its own, and the kernel's routes are those of Dovetail's agent: packets go the same ways.
package awsnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/imds"
	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

const (
	// tick of the loop that grows the pool. Nothing wakes it earlier.
	tick = 5 * time.Second
	// rest after a subnet had no address.
	rest = 2 * time.Minute
	// cooldown of an address, in seconds (IP_COOLDOWN_PERIOD).
	cooldown = 30
	// mtu of the pods' interfaces (AWS_VPC_ENI_MTU).
	mtu = 9001
	// noAddress is all that a pod's events say.
	noAddress = "add cmd: failed to assign an IP address to container"
)

// Options of the daemon, as its DaemonSet sets them.
type Options struct {
	ClusterName          string
	StateDir, CNIConfDir string
	WarmENIs             int
}

// Daemon of one node.
type Daemon struct {
	opts     Options
	log      *slog.Logger
	metadata imds.Reader
	instance imds.Instance
	cloud    cloud
	leases   *lease.Store
	want     demand // assigned is new each tick, enis after each action
	resting  time.Time
	// outside of these CIDRs pods have the node's address, as the kernel knows.
	translated []netip.Prefix
}

// New reads what the instance is.
func New(ctx context.Context, opts Options, cfg aws.Config, log *slog.Logger) (*Daemon, error) {
	d := &Daemon{opts: opts, log: log, metadata: imds.New(cfg)}
	err := os.MkdirAll(opts.StateDir, 0o700)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if d.leases, err = lease.Open(opts.StateDir); err != nil {
		return nil, err
	}
	if d.instance, err = d.metadata.Instance(ctx); err != nil {
		return nil, err
	}
	d.cloud = cloud{Client: &eni.Client{EC2: ec2.NewFromConfig(cfg), InstanceID: d.instance.ID, Cluster: opts.ClusterName}, groups: d.instance.SecurityGroups}
	limits, err := d.cloud.Limits(ctx, d.instance.Type)
	if err != nil {
		return nil, err
	}
	d.want = demand{
		slots: int(aws.ToInt32(limits.NetworkInfo.Ipv4AddressesPerInterface)) - 1, maxENIs: int(aws.ToInt32(limits.NetworkInfo.MaximumNetworkInterfaces)),
		warmENIs: opts.WarmENIs,
	}
	return d, nil
}

// Run serves the node until the context ends. The node is Ready after the first step, with whatever addresses that got.
func (d *Daemon) Run(ctx context.Context) error {
	if err := d.step(ctx); err != nil {
		return err
	}
	if err := d.announce(); err != nil {
		return err
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := d.step(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("a step failed", "error", err)
		}
	}
}

// step does at most one thing with EC2, then makes kernel and plugin know what there is.
func (d *Daemon) step(ctx context.Context) error {
	leases, err := d.leases.List()
	if err != nil {
		return err
	}
	d.want.assigned = len(leases)
	if err := d.look(ctx); err != nil {
		return err
	}
	if do, ok := d.want.grow(); ok && time.Now().After(d.resting) {
		err := d.cloud.do(ctx, d.want, do)
		switch {
		case outOfAddresses(err):
			d.log.Warn("the subnet does not have enough addresses", "subnet", d.want.enis[0].Subnet, "error", err)
			d.resting = time.Now().Add(rest)
		case err != nil:
			d.log.Error("growing the pool", "error", err)
		}
		d.want.enis = nil
		if err := d.look(ctx); err != nil {
			return err
		}
	}
	if d.instance.VPCCIDRs, err = d.metadata.VPCCIDRs(ctx, d.instance.PrimaryMAC); err != nil {
		return err
	}
	return d.publish(ctx, d.want.enis)
}

// look at the instance's ENIs, where they are not known.
func (d *Daemon) look(ctx context.Context) (err error) {
	if d.want.enis != nil {
		return nil
	}
	d.want.enis, err = d.cloud.own(ctx)
	if err == nil && len(d.want.enis) == 0 {
		err = errors.New("EC2 does not know the instance's primary ENI yet")
	}
	return err
}

// publish makes the kernel right, then tells the plugin.
func (d *Daemon) publish(ctx context.Context, enis []eni.ENI) error {
	cidr, err := d.cloud.SubnetCIDR(ctx, enis[0].Subnet)
	if err != nil {
		return err
	}
	present, err := d.kernel(ctx, enis, cidr)
	if err != nil {
		return err
	}
	doc := &pool.Document{
		Node: d.instance.ID, PrimaryAddress: d.instance.PrimaryAddress, MTU: mtu, PodTable: pool.PodTable, CooldownSeconds: cooldown,
		Shortage: &pool.Shortage{Reason: "AddFailed", Message: noAddress},
	}
	for _, e := range present {
		doc.ENIs = append(doc.ENIs, pool.ENI{
			ID: e.ID, MAC: e.MAC, DeviceIndex: e.DeviceIndex, RouteTable: pool.ENITable(e.DeviceIndex), Subnet: e.Subnet, SubnetCIDR: cidr,
			PrimaryAddress: e.Primary, Prefixes: e.Prefixes,
		})
	}
	return pool.Write(d.opts.StateDir, doc)
}

// announce makes the container runtime use the plugin, and so the node Ready.
func (d *Daemon) announce() error {
	content := fmt.Appendf(nil, `{
  "cniVersion": "1.0.0",
  "name": "aws-cni",
  "plugins": [
    {"type": %q, "stateDir": %q},
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
  ]
}
`, cni.Type, d.opts.StateDir)
	if err := pool.WriteFileAtomically(filepath.Join(d.opts.CNIConfDir, "10-aws.conflist"), content, 0o644); err != nil {
		return fmt.Errorf("writing the CNI configuration: %w", err)
	}
	return nil
}
