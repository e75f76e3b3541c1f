// SPDX-License-Identifier: Apache-2.0

// Package migration is how a cluster's nodes get to its pod networks: how far the replacement of Karpenter's nodes is, and the
// NodeMigrations that empty the others, with what their users do to them.
package migration

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	karpevents "sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Progress of a cluster's nodes to its pod networks.
type Progress struct {
	Time time.Time `json:"time"`
	// NodeMigrations empty nodes that Karpenter does not own.
	NodeMigrations []Migration `json:"nodeMigrations"`
	// PodNetworks whose nodes Karpenter replaces, because they drift.
	PodNetworks []Drift `json:"podNetworks"`
}

// Migration is the state of a NodeMigration.
type Migration struct {
	Name string `json:"name"`
	// Stale: the controller has not seen the spec as it is now.
	Stale          bool                         `json:"stale,omitempty"`
	Phase          v1alpha1.MigrationPhase      `json:"phase"`
	Reason         string                       `json:"reason,omitempty"`
	Message        string                       `json:"message,omitempty"`
	Nodes          v1alpha1.MigratedNodes       `json:"nodes"`
	MaxUnavailable int32                        `json:"maxUnavailable"`
	Blocked        []v1alpha1.MigrationBlock    `json:"blocked,omitempty"`
	NodeStatuses   []v1alpha1.NodeMigrationNode `json:"nodeStatuses,omitempty"`
	StartedAt      *metav1.Time                 `json:"startedAt,omitempty"`
	FinishedAt     *metav1.Time                 `json:"finishedAt,omitempty"`
	Pace           Pace                         `json:"pace"`
}

// Drift is the replacement of a PodNetwork's nodes.
type Drift struct {
	Name string `json:"name"`
	// Stale: the controller has not seen the spec as it is now.
	Stale    bool                 `json:"stale,omitempty"`
	Nodes    v1alpha1.NodesStatus `json:"nodes"`
	Complete bool                 `json:"complete"`
	Message  string               `json:"message,omitempty"`
	// Since is when the first node became outdated, and Replaced how many nodes were launched in the place of others since.
	Since    *metav1.Time `json:"since,omitempty"`
	Replaced int32        `json:"replaced,omitempty"`
	// Blocked is what Karpenter says keeps it from replacing nodes.
	Blocked []DriftBlock `json:"blocked,omitempty"`
	Pace    Pace         `json:"pace"`
}

// DriftBlock is what Karpenter says of objects, such as a PodDisruptionBudget that allows no eviction.
type DriftBlock struct {
	Objects []string `json:"objects"`
	Message string   `json:"message"`
}

// Pace is how fast nodes are done, and how long the others take at that.
type Pace struct {
	NodesPerMinute float64 `json:"nodesPerMinute"`
	Left           int32   `json:"left"`
	// LeftSeconds is not there while no node is done.
	LeftSeconds int64 `json:"leftSeconds,omitempty"`
}

// PaceOf nodes that were done within a time.
func PaceOf(done, left int32, within time.Duration) Pace {
	pace := Pace{Left: left}
	if done > 0 && within > 0 {
		perMinute := float64(done) / within.Minutes()
		pace.NodesPerMinute = math.Round(perMinute*10) / 10 //nolint:mnd // one digit
		pace.LeftSeconds = int64(math.Ceil(float64(left) / perMinute * 60))
	}
	return pace
}

// Read the progress of all, or of the NodeMigration of the name alone.
func Read(ctx context.Context, c client.Reader, name string, now time.Time) (Progress, error) {
	p := Progress{Time: now.UTC(), NodeMigrations: []Migration{}, PodNetworks: []Drift{}}
	migrations := &v1alpha1.NodeMigrationList{}
	if err := c.List(ctx, migrations); err != nil {
		return p, cli.Explain(err)
	}
	if name != "" {
		one, err := find(migrations.Items, name)
		if err != nil {
			return p, err
		}
		p.NodeMigrations = append(p.NodeMigrations, newMigration(one, now))
		return p, nil
	}
	for i := range migrations.Items {
		p.NodeMigrations = append(p.NodeMigrations, newMigration(&migrations.Items[i], now))
	}
	return p, p.readDrift(ctx, c)
}

func newMigration(m *v1alpha1.NodeMigration, now time.Time) Migration {
	s := m.Status
	found := Migration{
		Name: m.Name, Stale: s.ObservedGeneration < m.Generation, Phase: cmp.Or(s.Phase, v1alpha1.MigrationPending), Nodes: s.Nodes, MaxUnavailable: s.MaxUnavailable,
		Blocked: s.Blocked, NodeStatuses: s.NodeStatuses, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt,
	}
	if i := slices.IndexFunc(s.Conditions, func(c metav1.Condition) bool { return c.Type == v1alpha1.ConditionProgressing }); i >= 0 {
		found.Reason, found.Message = s.Conditions[i].Reason, s.Conditions[i].Message
	}
	found.Pace = Pace{Left: s.Nodes.Total - s.Nodes.Done}
	if s.StartedAt != nil {
		end := now
		if s.FinishedAt != nil {
			end = s.FinishedAt.Time
		}
		found.Pace = PaceOf(s.Nodes.Done, found.Pace.Left, end.Sub(s.StartedAt.Time))
	}
	return found
}

// Ended migrations do nothing further.
func (m Migration) Ended() bool {
	return !m.Stale && (m.Phase == v1alpha1.MigrationComplete || m.Phase == v1alpha1.MigrationStopped)
}

// readDrift of the PodNetworks. A cluster without Karpenter has none.
func (p *Progress) readDrift(ctx context.Context, c client.Reader) error {
	networks, claims := &v1alpha1.PodNetworkList{}, &karpv1.NodeClaimList{}
	for _, list := range []client.ObjectList{networks, claims} {
		if _, err := cli.List(ctx, c, list); err != nil {
			return err
		}
	}
	var events corev1.EventList
	outdated := slices.ContainsFunc(networks.Items, func(n v1alpha1.PodNetwork) bool { return n.Status.Nodes.Outdated > 0 })
	if outdated {
		if _, err := cli.List(ctx, c, &events, client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("reason", karpevents.DisruptionBlocked)}); err != nil {
			return err
		}
	}
	for i := range networks.Items {
		p.PodNetworks = append(p.PodNetworks, newDrift(&networks.Items[i], claims.Items, events.Items, p.Time))
	}
	return nil
}

func newDrift(network *v1alpha1.PodNetwork, claims []karpv1.NodeClaim, events []corev1.Event, now time.Time) Drift {
	nodes := network.Status.Nodes
	drift := Drift{Name: network.Name, Nodes: nodes, Stale: cli.Ready(network) == nil}
	drift.Complete = nodes.Outdated == 0 && !drift.Stale
	condition := network.StatusConditions().Get(v1alpha1.ConditionMigrationComplete)
	if nodes.Outdated == 0 || condition == nil {
		return drift
	}
	drift.Message, drift.Since = condition.Message, &condition.LastTransitionTime
	for i := range claims {
		claim := &claims[i]
		if claim.Labels[v1alpha1.LabelPodNetwork] == network.Name && claim.CreationTimestamp.After(drift.Since.Time) &&
			claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() && podnetwork.Outdated(network, claim) == "" {
			drift.Replaced++
		}
	}
	drift.Pace = PaceOf(drift.Replaced, nodes.Outdated, now.Sub(drift.Since.Time))
	drift.Blocked = blocks(claims, events, now)
	return drift
}

// blocks are what Karpenter lately said of NodeClaims that drift, and of their NodePools: the same of several in one.
func blocks(claims []karpv1.NodeClaim, events []corev1.Event, now time.Time) (found []DriftBlock) {
	drifting := map[string]bool{}
	for i := range claims {
		if claim := &claims[i]; claim.DeletionTimestamp.IsZero() && claim.StatusConditions().Get(karpv1.ConditionTypeDrifted).IsTrue() {
			drifting["NodeClaim/"+claim.Name], drifting["NodePool/"+claim.Labels[karpv1.NodePoolLabelKey]] = true, true
		}
	}
	for i := range events {
		e := &events[i]
		object := e.InvolvedObject.Kind + "/" + e.InvolvedObject.Name
		if !drifting[object] || now.Sub(cli.EventTime(e)) > cli.EventFresh {
			continue
		}
		at := slices.IndexFunc(found, func(b DriftBlock) bool { return b.Message == e.Message })
		if at < 0 {
			at, found = len(found), append(found, DriftBlock{Message: e.Message})
		}
		if !slices.Contains(found[at].Objects, object) {
			found[at].Objects = append(found[at].Objects, object)
		}
	}
	slices.SortFunc(found, func(a, b DriftBlock) int {
		return cmp.Or(len(b.Objects)-len(a.Objects), cmp.Compare(a.Message, b.Message))
	})
	return found
}

// Done tells that nothing moves, and nothing is to.
func (p Progress) Done() bool {
	return !slices.ContainsFunc(p.NodeMigrations, func(m Migration) bool { return !m.Ended() }) &&
		!slices.ContainsFunc(p.PodNetworks, func(d Drift) bool { return !d.Complete })
}

// find the NodeMigration of the name, or the only one.
func find(all []v1alpha1.NodeMigration, name string) (*v1alpha1.NodeMigration, error) {
	names := make([]string, 0, len(all))
	for i := range all {
		names = append(names, all[i].Name)
	}
	i := slices.Index(names, name)
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("there is no NodeMigration in this cluster: kubectl dovetail migrate start makes one")
	case name == "" && len(all) == 1:
		return &all[0], nil
	case name == "":
		return nil, fmt.Errorf("which one? There are %s", cli.Some(names))
	case i < 0:
		return nil, fmt.Errorf("there is no NodeMigration %s; there are %s", name, cli.Some(names))
	}
	return &all[i], nil
}
