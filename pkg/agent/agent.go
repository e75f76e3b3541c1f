// SPDX-License-Identifier: Apache-2.0

// Package agent is the node agent: it attaches ENIs in the pod subnet, keeps the kernel right, and publishes the addresses
// from which the CNI plugin serves pods by itself.
//
// Nothing is polled for demand: pods that are bound to the node without an address, and plugins that found the pool empty,
// wake the loop, which asks EC2 for the whole need in one call.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/imds"
	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

const (
	// period of a look at everything, whatever events say.
	period = 30 * time.Second
	// linkTimeout is how long an attached ENI's link may take to appear in the guest.
	linkTimeout = 30 * time.Second
	// singlesFor is how long single addresses are asked for after a subnet had no /28.
	singlesFor = 2 * time.Minute
	// sweepPeriod is the mean time between looks for ENIs that were left behind.
	sweepPeriod = 15 * time.Minute
	// Back-off after EC2 refused, doubled each time, with jitter.
	firstBackoff, lastBackoff = time.Second, 2 * time.Minute
)

// Agent of one node. Its loop is the only writer of all fields.
type Agent struct {
	opts     Options
	log      *slog.Logger
	kube     client.Reader
	events   record.EventRecorder
	metadata imds.Reader
	instance imds.Instance
	enis     *eni.Client
	leases   *lease.Store
	metrics  *metrics
	geometry *podcapacity.Geometry // from EC2, where labels do not say it

	attached   []eni.ENI // all that EC2 says, the primary included
	listed     bool
	sweepAt    time.Time // of the next look for ENIs that were left behind; zero: at once
	singlesTo  time.Time // until then addresses are asked for singly
	backoff    time.Duration
	notBefore  time.Time // of the next request to EC2 for more
	lacking    *pool.Shortage
	configured bool // the conflist is written

	wake chan struct{}
	asks chan ask
}

// ask of a plugin that found the pool empty.
type ask struct {
	answer chan error
}

// New connects to AWS and to the cluster.
func New(ctx context.Context, opts Options, cfg aws.Config, config *rest.Config, log *slog.Logger) (*Agent, error) {
	a := &Agent{opts: opts, log: log, metrics: newMetrics(), wake: make(chan struct{}, 1), asks: make(chan ask)}
	var err error
	a.metadata = imds.New(cfg)
	if a.instance, err = a.metadata.Instance(ctx); err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = a.instance.Region
	}
	a.enis = &eni.Client{EC2: ec2.NewFromConfig(a.metrics.instrument(cfg)), InstanceID: a.instance.ID, Cluster: opts.ClusterName}
	if err := os.MkdirAll(opts.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	// A hostPath volume that the kubelet made is everybody's to read.
	if err := os.Chmod(opts.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if a.leases, err = lease.Open(opts.StateDir); err != nil {
		return nil, err
	}
	if a.kube, err = a.connect(ctx, config); err != nil {
		return nil, err
	}
	return a, nil
}

// Run serves the node until the context ends. Pods keep their network when it does.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.serve(ctx); err != nil {
		return err
	}
	if err := a.watchKernel(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var waiting []ask
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			a.refreshVPC(ctx)
		case <-a.wake:
		case asked := <-a.asks:
			waiting = append(waiting, asked)
		}
		waiting = append(waiting, a.moreAsks()...)
		again, err := a.step(ctx, len(waiting))
		if err != nil && ctx.Err() == nil {
			a.fail(err)
		}
		waiting = a.answer(waiting, err)
		next := period
		if again {
			next = 0
		} else if wait := time.Until(a.notBefore); wait > 0 && wait < next {
			next = wait
		}
		timer.Reset(next)
	}
}

// refreshVPC reads the VPC's CIDRs again: one may have been added.
func (a *Agent) refreshVPC(ctx context.Context) {
	cidrs, err := a.metadata.VPCCIDRs(ctx, a.instance.PrimaryMAC)
	if err != nil {
		a.log.Warn("reading the VPC's CIDRs; the last ones stay", "error", err)
		return
	}
	a.instance.VPCCIDRs = cidrs
}

func (a *Agent) moreAsks() (more []ask) {
	for {
		select {
		case asked := <-a.asks:
			more = append(more, asked)
		default:
			return more
		}
	}
}

// answer tells plugins that there are addresses, or why there are none.
func (a *Agent) answer(waiting []ask, err error) []ask {
	leased, cooling, usageErr := a.leases.Usage(a.cooldown(), time.Now())
	doc, readErr := pool.Read(a.opts.StateDir)
	if usageErr == nil && readErr == nil && doc.Capacity() > leased+cooling {
		err = nil
	} else if err == nil && a.lacking != nil {
		err = errors.New(a.lacking.Message)
	} else if err == nil {
		return waiting
	}
	for _, asked := range waiting {
		asked.answer <- err
	}
	return nil
}

func (a *Agent) cooldown() time.Duration {
	if doc, err := pool.Read(a.opts.StateDir); err == nil {
		return doc.Cooldown()
	}
	return defaultSettings().cooldown
}

// step looks at everything once and does at most one thing with EC2; again asks for another step at once.
func (a *Agent) step(ctx context.Context, asks int) (again bool, err error) {
	node := &corev1.Node{}
	if err := a.kube.Get(ctx, client.ObjectKey{Name: a.opts.NodeName}, node); err != nil {
		return false, fmt.Errorf("reading node %s: %w", a.opts.NodeName, err)
	}
	s, err := a.settings(ctx, node)
	if err != nil {
		return false, err
	}
	if !a.listed {
		if a.attached, err = a.enis.List(ctx); err != nil {
			return false, a.classify(ctx, node, s, err)
		}
		a.listed = true
	}
	if err := a.publish(ctx, s); err != nil {
		return false, err
	}
	a.sweep(ctx)
	if time.Now().Before(a.notBefore) {
		return false, nil
	}
	input, err := a.input(ctx, node, s, asks)
	if err != nil {
		return false, err
	}
	plan := pool.Decide(input)
	switch plan.Action {
	case pool.Satisfied:
		a.satisfied()
		return false, nil
	case pool.Exhausted:
		// Warmth that cannot be had is no shortage as long as no pod waits.
		if input.Waiting > 0 {
			return false, &shortage{"AddressesExhausted", fmt.Sprintf("%d pods wait for an address and the node can take no more: %s", input.Waiting, plan.Reason)}
		}
		a.satisfied()
		return false, nil
	}
	a.log.Info("getting addresses", "action", plan.Action, "eni", plan.ENI, "count", plan.Count, "unit", plan.Unit, "short", plan.Short, "reason", plan.Reason)
	if err := a.perform(ctx, node, s, plan, input.Geometry); err != nil {
		return a.singlesInstead(s, plan, err), a.classify(ctx, node, s, err)
	}
	a.satisfied()
	return true, a.publish(ctx, s)
}

// singlesInstead falls back where the subnet has no /28, and says whether another try may follow at once.
func (a *Agent) singlesInstead(s settings, plan pool.Plan, err error) bool {
	if plan.Unit != pool.Prefix || !s.prefixes || eni.Classify(err) != eni.NoFreePrefix {
		return false
	}
	a.singlesTo = time.Now().Add(singlesFor)
	return true
}

// input gathers what the decision looks at.
func (a *Agent) input(ctx context.Context, node *corev1.Node, s settings, asks int) (pool.Input, error) {
	geometry, err := a.geometryOf(ctx, node)
	if err != nil {
		return pool.Input{}, err
	}
	leases, err := a.leases.List()
	if err != nil {
		return pool.Input{}, err
	}
	_, cooling, err := a.leases.Usage(s.cooldown, time.Now())
	if err != nil {
		return pool.Input{}, err
	}
	waiting, err := a.waitingPods(ctx, leases)
	if err != nil {
		return pool.Input{}, err
	}
	input := pool.Input{
		Geometry: pool.Geometry{ENIs: geometry.ENIs, AddressesPerENI: geometry.IPsPerENI}, Targets: s.targets,
		Unit: a.unit(s.prefixes && geometry.PrefixCapable), MaxPods: int(node.Status.Capacity.Pods().Value()),
		Leased: len(leases), Cooling: cooling, Waiting: max(waiting, asks),
	}
	for _, e := range a.attached {
		if !e.Ours {
			input.OtherENIs++
			continue
		}
		input.PodENIs = append(input.PodENIs, pool.AttachedENI{ID: e.ID, DeviceIndex: e.DeviceIndex, Used: len(e.Prefixes)})
		input.Capacity += pool.Addresses(e.Prefixes)
	}
	a.metrics.observe(input)
	return input, nil
}

// unit to ask for: prefixes where the network wants them, the instance type takes them, and the subnet had some lately.
func (a *Agent) unit(prefixes bool) pool.Unit {
	if prefixes && time.Now().After(a.singlesTo) {
		return pool.Prefix
	}
	return pool.SingleAddress
}

// waitingPods counts pods that are bound to the node, need an address and hold none.
func (a *Agent) waitingPods(ctx context.Context, leases []lease.Lease) (int, error) {
	pods := &corev1.PodList{}
	if err := a.kube.List(ctx, pods); err != nil { // the cache holds this node's pods only
		return 0, fmt.Errorf("listing the node's pods: %w", err)
	}
	held := map[string]bool{}
	for _, l := range leases {
		held[l.Pod] = true
	}
	waiting := 0
	for _, pod := range pods.Items {
		if needsAddress(&pod) && !held[pod.Namespace+"/"+pod.Name] {
			waiting++
		}
	}
	return waiting, nil
}

func needsAddress(pod *corev1.Pod) bool {
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	return !pod.Spec.HostNetwork && pod.Status.PodIP == "" && pod.DeletionTimestamp == nil && !ended
}

// perform does what the plan says, and takes EC2's answer for what is there.
func (a *Agent) perform(ctx context.Context, node *corev1.Node, s settings, plan pool.Plan, g pool.Geometry) error {
	if plan.Action == pool.Assign {
		assigned, err := a.enis.Assign(ctx, plan.ENI, plan.Unit, plan.Count)
		if err != nil {
			a.listed = eni.Classify(err).Refused() // else it may have had its effect: assigning again could double it
			return err
		}
		index := slices.IndexFunc(a.attached, func(e eni.ENI) bool { return e.ID == plan.ENI })
		a.attached[index].Prefixes = append(a.attached[index].Prefixes, assigned...)
		return nil
	}
	config, err := a.eniConfig(ctx, node, s.nodeLabel)
	if err != nil {
		return err
	}
	groups := config.Spec.SecurityGroups
	if len(groups) == 0 {
		groups = a.instance.SecurityGroups
	}
	var used []int
	for _, e := range a.attached {
		used = append(used, e.DeviceIndex)
	}
	created, err := a.enis.Create(ctx, eni.CreateParams{
		Subnet: config.Spec.Subnet, SecurityGroups: groups, Unit: plan.Unit, Count: plan.Count, UsedIndexes: used, MaxENIs: g.ENIs,
	})
	if created.ID == "" {
		if !eni.Classify(err).Refused() {
			a.listed, a.sweepAt = false, time.Time{}
		}
		return err
	}
	if err != nil { // publish tries again
		a.log.Warn("the ENI will be left behind when the instance ends; trying again", "error", err)
	}
	a.log.Info("attached an ENI", "eni", created.ID, "subnet", created.Subnet, "deviceIndex", created.DeviceIndex, "prefixes", created.Prefixes)
	a.attached = append(a.attached, created)
	return a.waitForLink(ctx, created.MAC)
}

// sweep deletes what an agent before this one, or a request whose reply was lost, has left behind.
func (a *Agent) sweep(ctx context.Context) {
	if time.Now().Before(a.sweepAt) {
		return
	}
	deleted, err := a.enis.Sweep(ctx)
	a.sweepAt = time.Now().Add(sweepPeriod/2 + rand.N(sweepPeriod)) //nolint:gosec // jitter
	if err != nil {
		a.sweepAt = time.Now().Add(time.Minute)
		a.log.Warn("ENIs of this instance may be left behind; looking again in a minute", "error", err)
	}
	if len(deleted) > 0 {
		a.log.Info("deleted ENIs that were left behind", "enis", deleted)
	}
}

// publish makes the kernel right, then tells the plugin. ENIs whose link is not there yet are left out.
func (a *Agent) publish(ctx context.Context, s settings) error {
	doc := &pool.Document{
		Node: a.opts.NodeName, PrimaryAddress: a.instance.PrimaryAddress, MTU: a.opts.MTU, PodTable: pool.PodTable,
		CooldownSeconds: int(s.cooldown.Seconds()), Shortage: a.lacking,
	}
	state := datapath.State{
		PrimaryMAC: a.instance.PrimaryMAC, PrimaryAddress: a.instance.PrimaryAddress, MTU: a.opts.MTU, PodTable: pool.PodTable,
		Local: append(slices.Clone(a.instance.VPCCIDRs), s.excluded...), SNAT: s.snat, RandomPorts: s.randomPorts,
	}
	for i, e := range a.attached {
		if !e.Ours {
			continue
		}
		if there, err := datapath.HasLink(e.MAC); err != nil || !there {
			a.log.Info("waiting for the link of an ENI", "eni", e.ID, "mac", e.MAC, "error", err)
			continue
		}
		if err := a.protect(ctx, i); err != nil {
			a.log.Warn("the ENI will be left behind when the instance ends; trying again", "error", err)
		}
		cidr, err := a.enis.SubnetCIDR(ctx, e.Subnet)
		if err != nil {
			return err
		}
		mac, err := net.ParseMAC(e.MAC)
		if err != nil {
			return fmt.Errorf("ENI %s: %w", e.ID, err)
		}
		table := pool.ENITable(e.DeviceIndex)
		state.ENIs = append(state.ENIs, datapath.ENI{MAC: mac, Table: table, Address: e.Primary, Subnet: cidr, Prefixes: e.Prefixes})
		doc.ENIs = append(doc.ENIs, pool.ENI{
			ID: e.ID, MAC: e.MAC, DeviceIndex: e.DeviceIndex, RouteTable: table, Subnet: e.Subnet, SubnetCIDR: cidr, PrimaryAddress: e.Primary, Prefixes: e.Prefixes,
		})
	}
	changes, err := datapath.Apply(state)
	for _, change := range changes {
		a.log.Info("datapath", "change", change)
	}
	if err != nil {
		return fmt.Errorf("datapath: %w", err)
	}
	if err := a.write(doc); err != nil {
		return err
	}
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

// protect sets DeleteOnTermination where it is not set yet: only an attached ENI takes it.
func (a *Agent) protect(ctx context.Context, i int) error {
	if a.attached[i].DeleteOnTermination {
		return nil
	}
	if err := a.enis.DeleteOnTermination(ctx, a.attached[i]); err != nil {
		return err
	}
	a.attached[i].DeleteOnTermination = true
	return nil
}

// write publishes the document when it differs.
func (a *Agent) write(doc *pool.Document) error {
	before, err := pool.Read(a.opts.StateDir)
	doc.Version = pool.Version
	if err == nil && fmt.Sprint(*before, before.Shortage) == fmt.Sprint(*doc, doc.Shortage) {
		return nil
	}
	return pool.Write(a.opts.StateDir, doc)
}

// satisfied forgets what was lacking.
func (a *Agent) satisfied() {
	a.backoff, a.notBefore = 0, time.Time{}
	if a.lacking != nil {
		a.lacking = nil
		a.poke()
	}
}

// fail records why there are no more addresses, where people look: the node's events, the plugin's error and the log.
func (a *Agent) fail(err error) {
	a.backoff = min(max(2*a.backoff, firstBackoff), lastBackoff)
	a.notBefore = time.Now().Add(a.backoff/2 + rand.N(a.backoff/2)) //nolint:gosec // jitter
	a.log.Warn("no addresses", "error", err, "again", time.Until(a.notBefore).Round(time.Millisecond))
	lacking := &pool.Shortage{Reason: string(eni.Failed), Message: err.Error(), Since: time.Now()}
	var known *shortage
	if errors.As(err, &known) {
		lacking.Reason, lacking.Message = known.reason, known.message
	}
	if a.lacking == nil || a.lacking.Message != lacking.Message {
		a.events.Event(a.nodeReference(), corev1.EventTypeWarning, lacking.Reason, lacking.Message)
		a.lacking = lacking
		a.poke()
	}
}

// poke asks the loop for another look.
func (a *Agent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// classify turns EC2's answer into what a person can act on.
func (a *Agent) classify(_ context.Context, node *corev1.Node, s settings, err error) error {
	var known *shortage
	if errors.As(err, &known) {
		return err
	}
	reason := eni.Classify(err)
	name, _ := eniConfigName(node, s.nodeLabel)
	pods := 0
	for _, e := range a.attached {
		if e.Ours {
			pods++
		}
	}
	where := fmt.Sprintf("ENIConfig %s, zone %s; %d pod ENIs attached", name, a.instance.Zone, pods)
	switch reason {
	case eni.NoFreePrefix:
		return &shortage{string(reason), fmt.Sprintf("the pod subnet has no free /28 (%s): add a subnet CIDR reservation of type prefix, or another subnet: %v", where, err)}
	case eni.SubnetFull:
		return &shortage{string(reason), fmt.Sprintf("the pod subnet has too few free addresses (%s): %v", where, err)}
	case eni.SubnetMissing, eni.GroupMissing, eni.WrongZone:
		return &shortage{string(reason), fmt.Sprintf("the ENIConfig cannot be used (%s): %v", where, err)}
	case eni.Unauthorized:
		return &shortage{string(reason), fmt.Sprintf("the node's IAM role lacks a right (%s): %v", where, err)}
	default:
		return &shortage{string(reason), fmt.Sprintf("%s: %v", where, err)}
	}
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
	if err := pool.WriteFileAtomically(filepath.Join(dir, "10-dovetail.conflist"), content, 0o644); err != nil {
		return fmt.Errorf("writing the CNI configuration: %w", err)
	}
	return nil
}
