// SPDX-License-Identifier: Apache-2.0

// Package overview is a cluster's pod networks at a glance.
package overview

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/awslabs/operatorpkg/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// eventsShown are the latest warnings, over all kinds that launches and addresses depend on.
const eventsShown = 5

// Overview of a cluster.
type Overview struct {
	PodNetworks []Network `json:"podNetworks"`
	// Warnings, the latest first.
	Warnings []Warning `json:"warnings,omitempty"`
}

// Network is one PodNetwork.
type Network struct {
	Name       string                 `json:"name"`
	Agent      v1alpha1.AgentKind     `json:"agent"`
	Allocation v1alpha1.Allocation    `json:"allocation"`
	Prefixes   bool                   `json:"prefixDelegation"`
	Ready      metav1.ConditionStatus `json:"ready"`
	// Stale: the controller has not seen the spec as it is now.
	Stale      bool                  `json:"stale,omitempty"`
	Zones      []v1alpha1.ZoneStatus `json:"zones"`
	Nodes      v1alpha1.NodesStatus  `json:"nodes"`
	Conditions []status.Condition    `json:"conditions"`
}

// Warning is an event.
type Warning struct {
	Time    time.Time `json:"time"`
	Object  string    `json:"object"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Count   int32     `json:"count"`
}

// watched kinds' warnings are shown.
var watched = []string{"PodNetwork", "ENIConfig", "EC2NodeClass", "NodePool", "NodeClaim", "NodeMigration"}

// Read the cluster.
func Read(ctx context.Context, c client.Reader) (Overview, error) {
	networks, err := cli.PodNetworks(ctx, c, "")
	if err != nil {
		return Overview{}, err
	}
	o := Overview{}
	for i := range networks {
		n := &networks[i]
		ready, root := metav1.ConditionUnknown, cli.Ready(n)
		if root != nil {
			ready = root.Status
		}
		o.PodNetworks = append(o.PodNetworks, Network{
			Name: n.Name, Agent: podnetwork.AgentOf(n), Allocation: cmp.Or(n.Spec.Addressing.Allocation, v1alpha1.AllocationDynamic),
			Prefixes: n.Spec.Addressing.PrefixDelegation != v1alpha1.Disabled, Ready: ready, Stale: root == nil,
			Zones: n.Status.Zones, Nodes: n.Status.Nodes, Conditions: n.Status.Conditions,
		})
	}
	warnings, err := warnings(ctx, c)
	o.Warnings = warnings
	return o, err
}

func warnings(ctx context.Context, c client.Reader) ([]Warning, error) {
	events := &corev1.EventList{}
	if _, err := cli.List(ctx, c, events, client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("type", corev1.EventTypeWarning)}); err != nil {
		return nil, err
	}
	var out []Warning
	for i := range events.Items {
		e := &events.Items[i]
		if !slices.Contains(watched, e.InvolvedObject.Kind) {
			continue
		}
		out = append(out, Warning{Time: cli.EventTime(e).UTC(), Object: e.InvolvedObject.Kind + "/" + e.InvolvedObject.Name, Reason: e.Reason, Message: e.Message, Count: max(e.Count, 1)})
	}
	slices.SortFunc(out, func(a, b Warning) int { return b.Time.Compare(a.Time) })
	return out[:min(len(out), eventsShown)], nil
}
