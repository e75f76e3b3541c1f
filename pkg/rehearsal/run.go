// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	appsv1 "k8s.io/api/apps/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Params of a rehearsal.
type Params struct {
	Cluster *Cluster
	// Change to rehearse. Without one it is the cluster's own PodNetworks and NodeMigrations.
	Change *Cluster
	Stage  Stage
	// Timeout of the migration.
	Timeout  time.Duration
	Progress io.Writer
}

const (
	// quiet is how long nothing changes before it is taken for the end: longer than Karpenter takes to look again (10 s).
	quiet = 12 * time.Second
	// stall is how long nothing changes before a migration that is not complete is given up. Karpenter tries a blocked node again every
	// 10 s, and a launch that failed within a minute or two.
	stall = 3 * time.Minute
)

// Run a rehearsal.
func Run(ctx context.Context, p Params) (Report, error) {
	before, change, err := p.split()
	if err != nil {
		return Report{}, err
	}
	t := &theater{
		Stage: p.Stage, ec2: ec2.NewFromConfig(p.Stage.AWS), progress: p.Progress, started: time.Now(),
		own: map[string]bool{}, was: map[string]string{}, held: map[string][]string{},
	}
	report := Report{Change: lo.Map(change.Objects(), func(o client.Object, _ int) string { return nameOf(o) }), Latency: t.Latency, PricesFrom: t.PricesFrom}
	if err := t.build(ctx, before); err != nil {
		return report, err
	}
	v, err := t.settle(ctx)
	if err != nil {
		return report, err
	}
	if report.Before, err = t.state(ctx, v); err != nil {
		return report, err
	}
	t.say("before: %d nodes, %d pods run, %d wait", report.Before.Total, report.Before.Running, report.Before.Waiting)
	if report.Migration, v, err = t.migrate(ctx, p.Timeout, before, change); err != nil {
		return report, err
	}
	if report.After, err = t.state(ctx, v); err != nil {
		return report, err
	}
	report.Notes = append(t.notes, append(before.Simplified(), change.Simplified()...)...)
	slices.Sort(report.Notes)
	report.Notes = slices.Compact(report.Notes)
	return report, nil
}

// split what there is before from what is to be rehearsed.
func (p *Params) split() (before, change *Cluster, err error) {
	copied := *p.Cluster
	before, change = &copied, p.Change
	if change == nil {
		change = &Cluster{PodNetworks: before.PodNetworks, NodeMigrations: before.NodeMigrations}
		before.PodNetworks = nil
	}
	before.NodeMigrations = nil // those of the past are over
	if len(change.Objects()) == 0 {
		return nil, nil, errors.New("there is no PodNetwork to rehearse: give one with -f (`dovetail plan --write DIR` proposes one)")
	}
	return before, change, before.Check()
}

// zones of the stage's Region.
func (t *theater) zones(ctx context.Context) ([]string, error) {
	out, err := t.ec2.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{})
	if err != nil {
		return nil, err
	}
	zones := make([]string, 0, len(out.AvailabilityZones))
	for _, z := range out.AvailabilityZones {
		zones = append(zones, aws.ToString(z.ZoneName))
	}
	return zones, nil
}

// build what there is before.
func (t *theater) build(ctx context.Context, c *Cluster) error {
	zones, err := t.zones(ctx)
	if err != nil {
		return err
	}
	t.names = mapZones(c.VPC.zones(), zones)
	if err := t.knowOwn(ctx); err != nil {
		return err
	}
	if err := t.buildVPC(ctx, &c.VPC); err != nil {
		return err
	}
	t.say("the VPC is there: %d subnets", len(c.VPC.Subnets))
	daemons, others := []client.Object{}, []client.Object{}
	for _, workload := range c.Workloads {
		if _, ok := workload.(*appsv1.DaemonSet); ok {
			daemons = append(daemons, workload)
		} else {
			others = append(others, workload)
		}
	}
	// What nodes are made of first, then the nodes, and their pods last: pods without a node would have Karpenter launch more.
	first := Cluster{PriorityClasses: c.PriorityClasses, ENIConfigs: c.ENIConfigs, PodNetworks: c.PodNetworks, Workloads: daemons, NodeClasses: t.cast(c.NodeClasses)}
	first.Workloads = c.known(first.Workloads)
	if err := t.create(ctx, append(first.Objects(), still(c.NodePools)...)); err != nil {
		return err
	}
	if err := t.ready(ctx); err != nil {
		return err
	}
	if err := t.launch(ctx, c); err != nil {
		return err
	}
	then := Cluster{Budgets: c.Budgets, Workloads: c.known(others)}
	if err := t.create(ctx, then.Objects()); err != nil {
		return err
	}
	t.say("%d workloads are there", len(c.Workloads))
	return nil
}

// readiness takes a controller seconds, and minutes where it extends a VPC.
const readiness = 2 * time.Minute

// ready waits for what nodes are launched with: Karpenter gives up a NodeClaim whose node class is not Ready.
func (t *theater) ready(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, readiness)
	defer cancel()
	var not []string
	err := poll(limited, time.Second, func(ctx context.Context) (bool, error) {
		classes, pools, networks := &ec2nodeclass.EC2NodeClassList{}, &karpv1.NodePoolList{}, &v1alpha1.PodNetworkList{}
		for _, list := range []client.ObjectList{classes, pools, networks} {
			if err := t.Kube.List(ctx, list); err != nil {
				return false, err
			}
		}
		not = nil
		unready := func(kind, name string, root *status.Condition) {
			if !root.IsTrue() {
				not = append(not, fmt.Sprintf("%s %s is not Ready: %s", kind, name, lo.FromPtr(root).Message))
			}
		}
		for i := range classes.Items {
			unready("EC2NodeClass", classes.Items[i].Name, classes.Items[i].StatusConditions().Root())
		}
		for i := range pools.Items {
			unready("NodePool", pools.Items[i].Name, pools.Items[i].StatusConditions().Root())
		}
		for i := range networks.Items {
			unready("PodNetwork", networks.Items[i].Name, networks.Items[i].StatusConditions().Root())
		}
		return len(not) == 0, nil
	})
	if err != nil && (ctx.Err() != nil || limited.Err() == nil) {
		return err
	}
	for _, line := range not {
		t.note("%s", line)
	}
	return nil
}

// cast node classes in the stage's role.
func (t *theater) cast(classes []ec2nodeclass.EC2NodeClass) []ec2nodeclass.EC2NodeClass {
	return lo.Map(classes, func(class ec2nodeclass.EC2NodeClass, _ int) ec2nodeclass.EC2NodeClass {
		class.Spec.Role = t.Role
		return class
	})
}

// known leaves out the names of priority classes that are not there: pods with them would not be admitted.
func (c *Cluster) known(workloads []client.Object) []client.Object {
	for _, workload := range workloads {
		spec := podSpec(workload)
		there := slices.ContainsFunc(c.PriorityClasses, func(p schedulingv1.PriorityClass) bool { return p.Name == spec.PriorityClassName })
		if !there && spec.PriorityClassName != "" && !strings.HasPrefix(spec.PriorityClassName, "system-") {
			c.note("%s: without PriorityClass %s, which is not there", nameOf(workload), spec.PriorityClassName)
			spec.PriorityClassName, spec.PreemptionPolicy = "", nil
		}
	}
	return workloads
}

// settle until all pods run, or nothing changes any more.
func (t *theater) settle(ctx context.Context) (*view, error) {
	var v *view
	last, since, said := "", time.Now(), ""
	err := poll(ctx, time.Second, func(ctx context.Context) (_ bool, err error) {
		if v, err = t.look(ctx); err != nil {
			return false, err
		}
		if line := fmt.Sprintf("%d pods run, %d wait; %d nodes", v.running(), len(v.waiting()), len(v.nodes)); line != said {
			said = line
			t.say("%s", line)
		}
		if now := v.print(); now != last {
			last, since = now, time.Now()
		}
		return v.unready() == 0 && time.Since(since) > quiet, nil
	})
	return v, err
}
