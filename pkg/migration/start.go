// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// Params of a new NodeMigration, in the words of a command line. What is empty gets the API's default.
type Params struct {
	Name string
	// Selector of the old nodes, as kubectl's -l.
	Selector string
	// MaxUnavailable nodes at a time: a number, or a share such as 10%.
	MaxUnavailable string
	// CordonAll nodes at the start.
	CordonAll bool
	// Terminate the instances of empty nodes.
	Terminate bool
	// EvictUncontrolled pods, which nobody makes again.
	EvictUncontrolled                   bool
	EvictionTimeout, PodsPendingTimeout time.Duration
}

// New NodeMigration. The API server checks the values.
func New(p Params) (*v1alpha1.NodeMigration, error) {
	if p.Selector == "" {
		return nil, errors.New("--selector says which nodes are old, such as eks.amazonaws.com/nodegroup=workers")
	}
	selector, err := metav1.ParseToLabelSelector(p.Selector)
	if err != nil {
		return nil, fmt.Errorf("--selector %s: %w", p.Selector, err)
	}
	m := &v1alpha1.NodeMigration{ObjectMeta: metav1.ObjectMeta{Name: p.Name}, Spec: v1alpha1.NodeMigrationSpec{
		NodeSelector: *selector,
		Timeouts:     v1alpha1.MigrationTimeouts{Eviction: metav1.Duration{Duration: p.EvictionTimeout}, PodsPending: metav1.Duration{Duration: p.PodsPendingTimeout}},
	}}
	named(m)
	if p.MaxUnavailable != "" {
		m.Spec.MaxUnavailable = intstr.Parse(p.MaxUnavailable)
		if m.Spec.MaxUnavailable == (intstr.IntOrString{}) { // which would be left out, and get the default
			return nil, fmt.Errorf("--max-unavailable 0 moves nothing: give a number from 1, or a share such as 10%%")
		}
	}
	if p.CordonAll {
		m.Spec.Cordon = v1alpha1.CordonAll
	}
	if p.Terminate {
		m.Spec.After = v1alpha1.AfterTerminate
	}
	if p.EvictUncontrolled {
		m.Spec.UncontrolledPods = v1alpha1.UncontrolledPodsEvict
	}
	return m, nil
}

// named gives an object its kind, which clients take away: for those who print it.
func named(m *v1alpha1.NodeMigration) {
	m.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("NodeMigration"))
}

// Ready refuses to move pods to a pod network that is not Ready: the PodNetwork of the name, or any.
func Ready(ctx context.Context, c client.Reader, name string) error {
	networks, err := cli.PodNetworks(ctx, c, name)
	if err != nil {
		return err
	}
	for i := range networks {
		network := &networks[i]
		ready := cli.Ready(network)
		switch {
		case ready == nil:
			return fmt.Errorf("the controller has not looked at PodNetwork %s as it is now: kubectl dovetail doctor says why", network.Name)
		case !ready.IsTrue():
			return fmt.Errorf("PodNetwork %s is not Ready (%s): %s; nodes would be emptied that nothing replaces. --pod-network names another one that the pods go to", network.Name, ready.Reason, ready.Message)
		}
	}
	return nil
}

// Start creates a NodeMigration, or with dryRun lets the API server say what it would be, and counts the nodes that it picks now.
func Start(ctx context.Context, c client.Client, m *v1alpha1.NodeMigration, dryRun bool) (nodes int, err error) {
	selector, err := metav1.LabelSelectorAsSelector(&m.Spec.NodeSelector)
	if err != nil {
		return 0, err
	}
	picked := &corev1.NodeList{}
	if err := c.List(ctx, picked, client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return 0, cli.Explain(err)
	}
	if len(picked.Items) == 0 {
		return 0, fmt.Errorf("no node has the labels %s: kubectl get nodes --show-labels lists what they have", selector)
	}
	var opts []client.CreateOption
	if dryRun {
		opts = append(opts, client.DryRunAll)
	}
	err = c.Create(ctx, m, opts...)
	named(m)
	if apierrors.IsAlreadyExists(err) {
		return 0, fmt.Errorf("there is a NodeMigration %s already: kubectl dovetail migrate status %s shows it", m.Name, m.Name)
	}
	return len(picked.Items), cli.Explain(err)
}
