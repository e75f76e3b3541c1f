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
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/agent/allocator"
	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/imds"
	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

const (
	// period of a look at everything, whatever events say.
	period = 30 * time.Second
	// gather is how long the loop waits for more of a burst: pods that are bound one by one, and plugins that ask one by one,
	// become one request to EC2.
	gather = 50 * time.Millisecond
	// linkTimeout is how long an attached ENI's link may take to appear in the guest.
	linkTimeout = 30 * time.Second
	// Back-off after EC2 refused, doubled each time, with jitter.
	firstBackoff, lastBackoff = time.Second, 2 * time.Minute
	// connectBackoff is the longest wait between tries to reach the API server and the metadata service at the start.
	connectBackoff = 15 * time.Second
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
	kernel   *datapath.Keeper
	geometry *podcapacity.Geometry // from EC2, where labels do not say it

	source     allocator.Source // chosen by the first step
	static     bool             // source makes no call of AWS
	vpcRead    time.Time
	linkSince  map[string]time.Time // ENIs whose links are awaited, by id
	linkless   error                // why one of them is missed
	published  []netip.Prefix       // what plugins may take addresses from
	backoff    time.Duration
	notBefore  time.Time // of the next request to EC2 for more
	lacking    *pool.Shortage
	refused    *v1alpha1.PodSubnetRefusal // the last one
	configured bool                       // the conflist is written
	// use and waiting pods of the last step; use is nil when it ended before.
	use     *usage
	waiting int

	condition *conditionWriter
	targets   *pool.Targets // as the pod network says now
	view      atomic.Pointer[view]
	readiness readiness
	health    net.Addr // where the kubelet asks
	errors    recent

	releases datapath.Releases // of the keeper's goroutine

	wake chan struct{}
	asks chan ask
}

// ask of a plugin that found the pool empty.
type ask struct {
	answer chan error
}

// New connects to AWS and to the cluster. What needs neither begins before they answer, and ends with the context.
func New(ctx context.Context, opts Options, cfg aws.Config, config *rest.Config, log *slog.Logger) (*Agent, error) {
	a := &Agent{opts: opts, log: log, metrics: newMetrics(), linkSince: map[string]time.Time{}, wake: make(chan struct{}, 1), asks: make(chan ask)}
	var err error
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
	if err := a.serveHealth(ctx); err != nil {
		return nil, err
	}
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	a.events = newRecorder(ctx, clientset, opts.NodeName)
	a.kernel = &datapath.Keeper{
		Pods: a.wiredPods, Log: log, LinksChanged: a.linksChanged, Repaired: a.metrics.repaired, Contested: a.contested, Failed: a.kernelFailed,
		SysctlDir: opts.SysctlDir,
	}
	a.resume()
	go a.keepKernel(ctx)
	go a.collect(ctx, clientset)
	a.metadata = imds.New(cfg)
	if err := a.insist(ctx, "the instance metadata service", func() (err error) {
		a.instance, err = a.metadata.Instance(ctx)
		return err
	}); err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = a.instance.Region
	}
	a.enis = &eni.Client{EC2: ec2.NewFromConfig(a.metrics.instrument(cfg)), InstanceID: a.instance.ID, Cluster: opts.ClusterName}
	if err := a.insist(ctx, "the API server", func() (err error) {
		a.kube, err = a.connect(ctx, config)
		return err
	}); err != nil {
		return nil, err
	}
	a.condition = newConditionWriter(clientset, opts.NodeName, a.node, log)
	return a, nil
}

// insist tries until somebody answers: meanwhile the kernel is kept right, which an agent that ends, and that the kubelet starts ever
// more seldom, would not do.
func (a *Agent) insist(ctx context.Context, whom string, try func() error) error {
	for backoff := firstBackoff; ; backoff = min(2*backoff, connectBackoff) {
		err := try()
		if err == nil {
			return nil
		}
		a.log.Warn("asking again in a while", "whom", whom, "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(backoff/2 + rand.N(backoff)): //nolint:gosec // jitter
		}
	}
}

// Run serves the node until the context ends. Pods keep their network when it does.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.serve(ctx); err != nil {
		return err
	}
	go a.condition.run(ctx)
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
			time.Sleep(gather)
		case asked := <-a.asks:
			waiting = append(waiting, asked)
			time.Sleep(gather)
		}
		waiting = append(waiting, a.moreAsks()...)
		next, err := a.step(ctx, len(waiting))
		if err != nil && ctx.Err() == nil {
			a.fail(err)
		}
		a.report()
		a.readiness.step()
		waiting = a.answer(waiting, err)
		timer.Reset(a.wait(next))
	}
}

// wait until the next step, when it is due at a time (zero: at none).
func (a *Agent) wait(due time.Time) time.Duration {
	wait := period
	if !due.IsZero() {
		wait = min(wait, max(time.Until(due), 0))
	}
	if left := time.Until(a.notBefore); left > 0 {
		wait = min(wait, left)
	}
	return wait
}

// refreshVPC reads the VPC's CIDRs again: one may have been added.
func (a *Agent) refreshVPC(ctx context.Context) {
	if time.Since(a.vpcRead) < period {
		return
	}
	cidrs, err := a.metadata.VPCCIDRs(ctx, a.instance.PrimaryMAC)
	if err != nil {
		a.log.Warn("reading the VPC's CIDRs; the last ones stay", "error", err)
		return
	}
	a.instance.VPCCIDRs, a.vpcRead = cidrs, time.Now()
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
	if len(waiting) == 0 {
		return nil
	}
	use, useErr := a.usage(a.cooldown(), time.Now())
	switch {
	case useErr == nil && use.free(a.published) > 0:
		err = nil
	case err == nil && a.lacking != nil:
		err = errors.New(a.lacking.Message)
	case err == nil:
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

// poke asks the loop for another look.
func (a *Agent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}
