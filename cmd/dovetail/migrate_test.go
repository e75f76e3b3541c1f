// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/migration"
)

const oldGroup = "eks.amazonaws.com/nodegroup=workers"

func newMigration(t *testing.T, name string) *v1alpha1.NodeMigration {
	t.Helper()
	m, err := migration.New(migration.Params{Name: name, Selector: oldGroup})
	require.NoError(t, err)
	return m
}

// report stands for the controller's.
func report(t *testing.T, c client.Client, name string, change func(*v1alpha1.NodeMigrationStatus)) {
	t.Helper()
	m := &v1alpha1.NodeMigration{}
	require.NoError(t, c.Get(t.Context(), client.ObjectKey{Name: name}, m))
	m.Status.ObservedGeneration = m.Generation
	change(&m.Status)
	require.NoError(t, c.Status().Update(t.Context(), m))
}

func TestAMigrationIsStarted(t *testing.T) {
	t.Run("a manifest needs no cluster", func(t *testing.T) {
		t.Setenv("KUBECONFIG", "")
		t.Setenv("HOME", t.TempDir())
		out, err := run(t, "migrate", "start", "old", "-l", oldGroup, "--max-unavailable", "10%", "--terminate", "--cordon-all", "--evict-uncontrolled", "--eviction-timeout", "30m", "--dry-run")
		require.NoError(t, err)
		var printed map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(out), &printed))
		require.Equal(t, map[string]any{
			"apiVersion": "dovetail.dev/v1alpha1", "kind": "NodeMigration", "metadata": map[string]any{"name": "old"},
			"spec": map[string]any{
				"nodeSelector": map[string]any{"matchLabels": map[string]any{"eks.amazonaws.com/nodegroup": "workers"}}, "maxUnavailable": "10%", "cordon": "All",
				"after": "Terminate", "uncontrolledPods": "Evict", "timeouts": map[string]any{"eviction": "30m0s"},
			},
		}, printed)
	})
	t.Run("what cannot be is refused at once", func(t *testing.T) {
		_, err := run(t, "migrate", "start", "old", "--dry-run=client")
		require.ErrorContains(t, err, "--selector says which nodes are old")
		_, err = run(t, "migrate", "start", "old", "-l", oldGroup, "--dry-run=maybe")
		require.ErrorContains(t, err, "choose none, client or server")
		_, err = run(t, "migrate", "start", "old", "-l", "a==b==c")
		require.ErrorContains(t, err, "--selector a==b==c")
		_, err = run(t, "migrate", "start", "old", "-l", oldGroup, "--max-unavailable", "0")
		require.ErrorContains(t, err, "--max-unavailable 0 moves nothing")
		_, err = run(t, "migrate", "status", "-o", "yaml")
		require.ErrorContains(t, err, "the only other output is json")
	})

	c := useCluster(t, chartstest.StartAPIServer(t))
	start := func(flags ...string) (string, error) {
		return run(t, append([]string{"migrate", "start", "old", "-l", oldGroup}, flags...)...)
	}
	_, err := start()
	require.ErrorContains(t, err, "there is no PodNetwork")

	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	require.NoError(t, c.Create(t.Context(), network))
	_, err = start()
	require.ErrorContains(t, err, "the controller has not looked at PodNetwork default")
	network.StatusConditions().SetFalse(status.ConditionReady, "ENIConfigMissing", "zone us-east-1b has none")
	require.NoError(t, c.Status().Update(t.Context(), network))
	_, err = start()
	require.ErrorContains(t, err, "PodNetwork default is not Ready (ENIConfigMissing): zone us-east-1b has none")
	for _, condition := range network.StatusConditions().List() {
		network.StatusConditions().SetTrue(condition.Type)
	}
	require.NoError(t, c.Status().Update(t.Context(), network))

	_, err = start()
	require.ErrorContains(t, err, "no node has the labels "+oldGroup)
	require.NoError(t, c.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"eks.amazonaws.com/nodegroup": "workers"}}}))
	_, err = start("--max-unavailable", "200%")
	require.ErrorContains(t, err, "must be a number from 1, or a percentage from 1% to 100%", "the API server's rule")
	out, err := start("--dry-run=server")
	require.NoError(t, err)
	require.Contains(t, out, "maxUnavailable: 1\n", "the API server's default")
	require.NotContains(t, out, "status")
	_, err = run(t, "migrate", "status", "old")
	require.ErrorContains(t, err, "there is no NodeMigration in this cluster", "nothing was made")

	out, err = start()
	require.NoError(t, err)
	require.Contains(t, out, "NodeMigration old is created; 1 nodes have its labels now")
	_, err = start()
	require.ErrorContains(t, err, "there is a NodeMigration old already")
	_, err = start("--pod-network", "other")
	require.ErrorContains(t, err, "there is no PodNetwork other; there are default")
}

func TestAMigrationIsSteered(t *testing.T) {
	c := useCluster(t, chartstest.StartAPIServer(t))
	_, err := run(t, "migrate", "pause")
	require.ErrorContains(t, err, "there is no NodeMigration in this cluster")
	require.NoError(t, c.Create(t.Context(), newMigration(t, "old")))
	spec := func() v1alpha1.NodeMigrationSpec {
		m := &v1alpha1.NodeMigration{}
		require.NoError(t, c.Get(t.Context(), client.ObjectKey{Name: "old"}, m))
		return m.Spec
	}

	_, err = run(t, "migrate", "resume")
	require.ErrorContains(t, err, "NodeMigration old is not paused")
	out, err := run(t, "migrate", "pause", "-o", "json")
	require.NoError(t, err)
	var printed v1alpha1.NodeMigration
	require.NoError(t, json.Unmarshal([]byte(out), &printed))
	require.Equal(t, "NodeMigration", printed.Kind)
	require.True(t, spec().Paused)
	out, err = run(t, "migrate", "resume", "old")
	require.NoError(t, err)
	require.Contains(t, out, "NodeMigration old goes on")
	require.False(t, spec().Paused)
	require.Equal(t, intstr.FromInt32(1), spec().MaxUnavailable, "nothing else has changed")

	report(t, c, "old", func(s *v1alpha1.NodeMigrationStatus) { s.Phase = v1alpha1.MigrationPaused })
	_, err = run(t, "migrate", "resume")
	require.ErrorContains(t, err, "it waits by itself")
	require.NoError(t, c.Create(t.Context(), newMigration(t, "other")))
	_, err = run(t, "migrate", "stop")
	require.ErrorContains(t, err, "which one? There are old, other")
	_, err = run(t, "migrate", "stop", "nobody")
	require.ErrorContains(t, err, "there is no NodeMigration nobody; there are old, other")
	out, err = run(t, "migrate", "stop", "old")
	require.NoError(t, err)
	require.Contains(t, out, "its nodes take pods again")
	require.True(t, spec().Stop)
	for _, verb := range []string{"pause", "resume"} {
		_, err = run(t, "migrate", verb, "old")
		require.ErrorContains(t, err, "NodeMigration old is stopped")
	}
	report(t, c, "other", func(s *v1alpha1.NodeMigrationStatus) { s.Phase = v1alpha1.MigrationComplete })
	_, err = run(t, "migrate", "pause", "other")
	require.ErrorContains(t, err, "complete: there is nothing to pause")
}

func TestAMigrationsProgressIsShown(t *testing.T) {
	c := useCluster(t, chartstest.StartAPIServer(t))
	out, err := run(t, "migrate", "status")
	require.NoError(t, err)
	require.Contains(t, out, "nothing moves")

	require.NoError(t, c.Create(t.Context(), newMigration(t, "old")))
	out, err = run(t, "migrate", "status")
	require.NoError(t, err)
	require.Contains(t, out, "NodeMigration old: not looked at yet")

	begun := metav1.NewTime(time.Now().Add(-2 * time.Minute))
	report(t, c, "old", func(s *v1alpha1.NodeMigrationStatus) {
		s.Phase, s.StartedAt, s.MaxUnavailable = v1alpha1.MigrationWaiting, &begun, 2
		s.Nodes = v1alpha1.MigratedNodes{Total: 10, Done: 4, Draining: 2, Pending: 4, Refused: 1}
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionFalse, Reason: "PodDisruptionBudget", Message: "default/web allows no eviction"})
		s.Blocked = []v1alpha1.MigrationBlock{{Reason: "PodDisruptionBudget", Message: "default/web allows no eviction"}}
		s.NodeStatuses = []v1alpha1.NodeMigrationNode{{Name: "node-1", Phase: v1alpha1.NodeDraining, Pods: 3, Since: &begun}, {Name: "node-9", Phase: v1alpha1.NodePending}}
	})
	network, claims := drifting(t, c)
	out, err = run(t, "migrate", "status")
	require.NoError(t, err)
	require.Contains(t, out, "NodeMigration old: Waiting\n")
	require.Contains(t, out, "  PodDisruptionBudget: default/web allows no eviction\n")
	require.Contains(t, out, "████████████░░░░░░░░░░░░░░░░░░  4 of 10 nodes, 2 at work (at most 2), 4 to come, 1 refused; 2.0 nodes a minute, about 3m left\n")
	require.Contains(t, out, "  node node-1: Draining, 3 pods to leave, for 2m\n")
	require.NotContains(t, out, "node-9")
	require.Contains(t, out, "PodNetwork default: 3 of 4 nodes were launched with other settings\n")
	require.Regexp(t, `1 of 4 nodes are current, 3 to replace; \d+\.\d nodes a minute, about \d+[ms] left`, out)
	require.Contains(t, out, "  NodeClaim/"+claims[1].Name+": Pdb prevents pod evictions\n")
	require.NotContains(t, out, "an hour ago")

	out, err = run(t, "migrate", "status", "-o", "json")
	require.NoError(t, err)
	var p migration.Progress
	require.NoError(t, json.Unmarshal([]byte(out), &p))
	require.InDelta(t, 2.0, p.NodeMigrations[0].Pace.NodesPerMinute, 0.1)
	require.Equal(t, int32(6), p.NodeMigrations[0].Pace.Left)
	require.Equal(t, int32(1), p.PodNetworks[0].Replaced)

	t.Run("watched until all is done", func(t *testing.T) {
		var log lines
		ended := make(chan error, 1)
		go func() {
			root := newRootCommand()
			root.SetOut(&log)
			root.SetArgs([]string{"migrate", "status", "--watch"})
			ended <- root.ExecuteContext(t.Context())
		}()
		log.await(t, "NodeMigration old: Waiting; 4 of 10 nodes, 2 at work (at most 2), 4 to come, 1 refused; 2.0 nodes a minute, about 3m left; PodDisruptionBudget: default/web allows no eviction\n")
		log.await(t, "PodNetwork default: 1 of 4 nodes are current, 3 to replace")
		report(t, c, "old", func(s *v1alpha1.NodeMigrationStatus) {
			s.Phase, s.Blocked, s.Nodes = v1alpha1.MigrationProgressing, nil, v1alpha1.MigratedNodes{Total: 10, Done: 9, Draining: 1}
		})
		log.await(t, "NodeMigration old: Progressing; 9 of 10 nodes, 1 at work (at most 2)")
		report(t, c, "old", func(s *v1alpha1.NodeMigrationStatus) {
			s.Phase, s.FinishedAt, s.Nodes = v1alpha1.MigrationComplete, &metav1.Time{Time: begun.Add(5 * time.Minute)}, v1alpha1.MigratedNodes{Total: 10, Done: 10}
		})
		log.await(t, "NodeMigration old: Complete, in 5m; 10 of 10 nodes; 2.0 nodes a minute")
		network.Status.Nodes = v1alpha1.NodesStatus{Total: 4, Current: 4}
		require.NoError(t, c.Status().Update(t.Context(), network))
		require.NoError(t, <-ended)
		log.await(t, "PodNetwork default: 4 of 4 nodes are current\n")
	})
}

// drifting is a PodNetwork with a node of four replaced, and what Karpenter says of the others.
func drifting(t *testing.T, c client.Client) (*v1alpha1.PodNetwork, []*karpv1.NodeClaim) {
	t.Helper()
	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	require.NoError(t, c.Create(t.Context(), network))
	network.Status.Nodes = v1alpha1.NodesStatus{Total: 4, Current: 1, Outdated: 3}
	network.StatusConditions().SetFalse(v1alpha1.ConditionMigrationComplete, "NodesOutdated", "3 of 4 nodes were launched with other settings")
	for i := range network.Status.Conditions {
		network.Status.Conditions[i].LastTransitionTime = metav1.NewTime(time.Now().Add(-time.Minute))
	}
	require.NoError(t, c.Status().Update(t.Context(), network))
	var claims []*karpv1.NodeClaim
	for name, hash := range map[string]string{"new": network.Hash(), "stuck": "before"} {
		claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{v1alpha1.LabelPodNetwork: "default"}, Annotations: map[string]string{v1alpha1.AnnotationPodNetworkHash: hash},
		}}
		claim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
		claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{}
		require.NoError(t, c.Create(t.Context(), claim))
		for _, condition := range []string{karpv1.ConditionTypeLaunched, karpv1.ConditionTypeRegistered, karpv1.ConditionTypeInitialized} {
			claim.StatusConditions().SetTrue(condition)
		}
		if hash == "before" {
			claim.StatusConditions().SetTrue(karpv1.ConditionTypeDrifted)
		}
		require.NoError(t, c.Status().Update(t.Context(), claim))
		claims = append(claims, claim)
		for message, age := range map[string]time.Duration{"Pdb prevents pod evictions": 0, "an hour ago": time.Hour} {
			at := metav1.NewTime(time.Now().Add(-age))
			require.NoError(t, c.Create(t.Context(), &corev1.Event{
				ObjectMeta:     metav1.ObjectMeta{Namespace: "default", GenerateName: name + "-"},
				InvolvedObject: corev1.ObjectReference{Kind: "NodeClaim", Name: name, Namespace: "default"},
				Type:           corev1.EventTypeNormal, Reason: "DisruptionBlocked", Message: message, FirstTimestamp: at, LastTimestamp: at, Count: 1,
			}))
		}
	}
	if claims[1].Name != "stuck" {
		claims[0], claims[1] = claims[1], claims[0]
	}
	return network, claims
}

// lines is what a command that goes on has written so far.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) await(t *testing.T, mention string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		l.mu.Lock()
		defer l.mu.Unlock()
		require.Contains(c, l.text.String(), mention)
	}, time.Minute, 50*time.Millisecond)
}
