// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

func TestTheAPIServerDefaultsAndValidatesNodeMigrations(t *testing.T) {
	c := startWith(t, "dovetail.dev_nodemigrations.yaml")

	t.Run("an object with a selector has every default", func(t *testing.T) {
		require.NoError(t, apply(t, c, "NodeMigration", "defaults", `spec: {nodeSelector: {matchLabels: {eks.amazonaws.com/nodegroup: old}}}`))
		got := &v1alpha1.NodeMigration{}
		require.NoError(t, c.Get(t.Context(), client.ObjectKey{Name: "defaults"}, got))
		require.Equal(t, v1alpha1.NodeMigrationSpec{
			NodeSelector:     metav1.LabelSelector{MatchLabels: map[string]string{"eks.amazonaws.com/nodegroup": "old"}},
			MaxUnavailable:   intstr.FromInt32(1),
			Cordon:           v1alpha1.CordonDraining,
			After:            v1alpha1.AfterLeave,
			UncontrolledPods: v1alpha1.UncontrolledPodsWait,
			Timeouts:         v1alpha1.MigrationTimeouts{Eviction: metav1.Duration{Duration: 15 * time.Minute}, PodsPending: metav1.Duration{Duration: 5 * time.Minute}},
		}, got.Spec)
	})
	t.Run("a program that leaves fields as they are gets the defaults too", func(t *testing.T) {
		got := &v1alpha1.NodeMigration{ObjectMeta: metav1.ObjectMeta{Name: "typed"}}
		got.Spec.NodeSelector.MatchLabels = map[string]string{"a": "b"}
		require.NoError(t, c.Create(t.Context(), got))
		require.Equal(t, intstr.FromInt32(1), got.Spec.MaxUnavailable)
		require.Equal(t, 15*time.Minute, got.Spec.Timeouts.Eviction.Duration)
	})
	t.Run("good objects are taken", func(t *testing.T) {
		for name, spec := range map[string]string{
			"expression":  `nodeSelector: {matchExpressions: [{key: karpenter.sh/nodepool, operator: DoesNotExist}]}`,
			"percent":     `nodeSelector: {matchLabels: {a: b}}, maxUnavailable: 25%`,
			"all-at-once": `nodeSelector: {matchLabels: {a: b}}, maxUnavailable: 100%, cordon: All, after: Terminate, uncontrolledPods: Evict`,
			"paused":      `nodeSelector: {matchLabels: {a: b}}, paused: true, stop: true, timeouts: {eviction: 1h}`,
		} {
			require.NoError(t, apply(t, c, "NodeMigration", name, "spec: {"+spec+"}"), name)
		}
	})
	for name, test := range map[string]struct{ spec, message string }{
		"no-selector":       {`{}`, "spec.nodeSelector: Required value"},
		"empty-selector":    {`{nodeSelector: {}}`, "must not be empty: name the old nodes by a label"},
		"karpenter":         {`{nodeSelector: {matchLabels: {karpenter.sh/nodepool: default}}}`, "Karpenter replaces its nodes itself"},
		"operator":          {`{nodeSelector: {matchExpressions: [{key: a, operator: Is}]}}`, "there are no other operators"},
		"in-without-values": {`{nodeSelector: {matchExpressions: [{key: a, operator: In}]}}`, "In and NotIn need values"},
		"zero":              {`{nodeSelector: {matchLabels: {a: b}}, maxUnavailable: 0}`, "to hold the migration set spec.paused"},
		"zero-percent":      {`{nodeSelector: {matchLabels: {a: b}}, maxUnavailable: 0%}`, "a percentage from 1% to 100%"},
		"over-percent":      {`{nodeSelector: {matchLabels: {a: b}}, maxUnavailable: 101%}`, "a percentage from 1% to 100%"},
		"no-number":         {`{nodeSelector: {matchLabels: {a: b}}, maxUnavailable: two}`, "must be a number from 1"},
		"after":             {`{nodeSelector: {matchLabels: {a: b}}, after: Delete}`, `supported values: "Leave", "Terminate"`},
		"timeout":           {`{nodeSelector: {matchLabels: {a: b}}, timeouts: {eviction: 0s}}`, "must be between 1s and 24h"},
		"unknown-field":     {`{nodeSelector: {matchLabels: {a: b}}, budget: 1}`, `unknown field "spec.budget"`},
	} {
		t.Run("refused: "+name, func(t *testing.T) {
			require.ErrorContains(t, apply(t, c, "NodeMigration", name, "spec: "+test.spec), test.message)
		})
	}
}
