// SPDX-License-Identifier: Apache-2.0

package vpccni_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/vpccni"
)

func daemonSet(terms ...corev1.NodeSelectorTerm) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{}
	d.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	if len(terms) > 0 {
		d.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms}}}
	}
	return d
}

func term(requirements ...corev1.NodeSelectorRequirement) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: requirements}
}

func TestTheAffinityLeavesEachNodeOneOfTheTwo(t *testing.T) {
	linux := corev1.NodeSelectorRequirement{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"linux"}}
	notFargate := corev1.NodeSelectorRequirement{Key: "eks.amazonaws.com/compute-type", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"fargate"}}
	off := corev1.NodeSelectorRequirement{Key: v1alpha1.LabelPodNetwork, Operator: corev1.NodeSelectorOpDoesNotExist}
	nodes := map[string]struct {
		labels map[string]string
		runs   bool
	}{
		"of nobody's":                  {map[string]string{}, true},
		"of Dovetail's agent":          {map[string]string{v1alpha1.LabelPodNetwork: "default", v1alpha1.LabelAgent: "Dovetail"}, false},
		"of Dovetail's, without label": {map[string]string{v1alpha1.LabelPodNetwork: "default"}, false},
		"of aws-node":                  {map[string]string{v1alpha1.LabelPodNetwork: "default", v1alpha1.LabelAgent: "VPCCNI"}, true},
	}
	for name, before := range map[string]*appsv1.DaemonSet{
		"no affinity":              daemonSet(),
		"the default one":          daemonSet(term(linux, notFargate)),
		"one for another purpose":  daemonSet(term(linux, off)),
		"two terms":                daemonSet(term(linux), term(notFargate)),
		"the one that we ask for":  daemonSet(vpccni.Affinity(daemonSet(term(linux, notFargate))).NodeSelectorTerms...),
		"an empty one, of nothing": daemonSet(corev1.NodeSelectorTerm{}),
	} {
		t.Run(name, func(t *testing.T) {
			after := daemonSet(vpccni.Affinity(before).NodeSelectorTerms...)
			for name, node := range nodes {
				node.labels[corev1.LabelOSStable] = "linux"
				require.Equal(t, node.runs, vpccni.Selects(after, scheduling.NewLabelRequirements(node.labels), nil), name)
			}
			require.False(t, vpccni.Selects(daemonSet(term(linux, notFargate)), scheduling.NewLabelRequirements(map[string]string{corev1.LabelOSStable: "windows"}), nil))
			require.Equal(t, vpccni.Affinity(before), vpccni.Affinity(after), "once is enough")
		})
	}
}

func TestADaemonSetIsOnNodesWhoseTaintsItTolerates(t *testing.T) {
	taints := []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule}}
	d := daemonSet()
	require.True(t, vpccni.Selects(d, scheduling.NewRequirements(), taints))
	d.Spec.Template.Spec.Tolerations = nil
	require.False(t, vpccni.Selects(d, scheduling.NewRequirements(), taints))
}

func TestANodeSelectorCountsToo(t *testing.T) {
	d := daemonSet()
	d.Spec.Template.Spec.NodeSelector = map[string]string{"cni": "aws"}
	require.False(t, vpccni.Selects(d, scheduling.NewRequirements(), nil, scheduling.AllowUndefinedWellKnownLabels))
	require.True(t, vpccni.Selects(d, scheduling.NewLabelRequirements(map[string]string{"cni": "aws"}), nil))
}
