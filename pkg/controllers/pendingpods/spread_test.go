// SPDX-License-Identifier: Apache-2.0

package pendingpods

import (
	"fmt"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

var web = map[string]string{"app": "web"}

// constraint over zones, for pods of web.
func constraint(change ...func(*corev1.TopologySpreadConstraint)) corev1.TopologySpreadConstraint {
	c := corev1.TopologySpreadConstraint{
		MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: web},
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func TestZonesThatSpreadConstraintsLeave(t *testing.T) {
	gpu := corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}
	for name, test := range map[string]struct {
		constraints []corev1.TopologySpreadConstraint
		// running pods of web by zone; each zone named has a node.
		running map[string]int
		change  func(pod *corev1.Pod, c *cluster)
		left    string
	}{
		"none":                                  {nil, map[string]int{"a": 9}, nil, "[a b c]"},
		"all are as full":                       {[]corev1.TopologySpreadConstraint{constraint()}, map[string]int{"a": 1, "b": 1, "c": 1}, nil, "[a b c]"},
		"the emptiest":                          {[]corev1.TopologySpreadConstraint{constraint()}, map[string]int{"a": 0, "b": 1, "c": 1}, nil, "[a]"},
		"a zone that has no node yet":           {[]corev1.TopologySpreadConstraint{constraint()}, map[string]int{"b": 1, "c": 1}, nil, "[a]"},
		"a larger skew":                         {[]corev1.TopologySpreadConstraint{constraint(func(c *corev1.TopologySpreadConstraint) { c.MaxSkew = 2 })}, map[string]int{"a": 0, "b": 1, "c": 2}, nil, "[a b]"},
		"a soft one":                            {[]corev1.TopologySpreadConstraint{constraint(func(c *corev1.TopologySpreadConstraint) { c.WhenUnsatisfiable = corev1.ScheduleAnyway })}, map[string]int{"b": 9}, nil, "[a b c]"},
		"over hosts":                            {[]corev1.TopologySpreadConstraint{constraint(func(c *corev1.TopologySpreadConstraint) { c.TopologyKey = corev1.LabelHostname })}, map[string]int{"b": 9}, nil, "[a b c]"},
		"a zone where no node of a pool can be": {[]corev1.TopologySpreadConstraint{constraint()}, map[string]int{"a": 1, "b": 1, "c": 1, "d": 0}, nil, "[]"},
		"fewer zones than wanted":               {[]corev1.TopologySpreadConstraint{constraint(func(c *corev1.TopologySpreadConstraint) { c.MinDomains = lo.ToPtr[int32](4) })}, map[string]int{"a": 1, "b": 1, "c": 0}, nil, "[c]"},
		"a pod that does not count itself": {[]corev1.TopologySpreadConstraint{constraint()}, map[string]int{"a": 0, "b": 1, "c": 2}, func(pod *corev1.Pod, _ *cluster) {
			pod.Labels = nil
		}, "[a b]"},
		"pods of another namespace, and those that end": {[]corev1.TopologySpreadConstraint{constraint()}, map[string]int{"b": 2, "c": 1}, func(_ *corev1.Pod, c *cluster) {
			c.pods[0].Namespace, c.pods[1].DeletionTimestamp, c.pods[2].Status.Phase = "other", lo.ToPtr(metav1.NewTime(time.Unix(1, 0))), corev1.PodSucceeded
		}, "[a b c]"},
		"pods of an older template": {[]corev1.TopologySpreadConstraint{constraint(func(c *corev1.TopologySpreadConstraint) { c.MatchLabelKeys = []string{"pod-template-hash"} })}, map[string]int{"b": 5}, func(pod *corev1.Pod, _ *cluster) {
			pod.Labels = lo.Assign(web, map[string]string{"pod-template-hash": "new"})
		}, "[a b c]"},
		"nodes that the pod does not select": {[]corev1.TopologySpreadConstraint{constraint()}, map[string]int{"b": 5}, func(pod *corev1.Pod, _ *cluster) {
			pod.Spec.NodeSelector = map[string]string{"team": "web"}
		}, "[a b c]"},
		"nodes that it does not select, and that count": {[]corev1.TopologySpreadConstraint{constraint(func(c *corev1.TopologySpreadConstraint) {
			c.NodeAffinityPolicy = lo.ToPtr(corev1.NodeInclusionPolicyIgnore)
		})}, map[string]int{"b": 5}, func(pod *corev1.Pod, _ *cluster) { pod.Spec.NodeSelector = map[string]string{"team": "web"} }, "[a c]"},
		"tainted nodes count": {[]corev1.TopologySpreadConstraint{constraint()}, map[string]int{"b": 5}, func(_ *corev1.Pod, c *cluster) { c.nodes["b"].Spec.Taints = []corev1.Taint{gpu} }, "[a c]"},
		"tainted nodes do not, if so said": {[]corev1.TopologySpreadConstraint{constraint(func(c *corev1.TopologySpreadConstraint) {
			c.NodeTaintsPolicy = lo.ToPtr(corev1.NodeInclusionPolicyHonor)
		})}, map[string]int{"b": 5}, func(_ *corev1.Pod, c *cluster) { c.nodes["b"].Spec.Taints = []corev1.Taint{gpu} }, "[a b c]"},
	} {
		t.Run(name, func(t *testing.T) {
			around := cluster{nodes: map[string]*corev1.Node{}}
			for zone, n := range test.running {
				around.nodes[zone] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: zone, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
				for range n {
					around.pods = append(around.pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: web}, Spec: corev1.PodSpec{NodeName: zone}})
				}
			}
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: web}, Spec: corev1.PodSpec{TopologySpreadConstraints: test.constraints}}
			if test.change != nil {
				test.change(pod, &around)
			}
			require.Equal(t, test.left, fmt.Sprint(sets.List(around.leaves(pod, sets.New("a", "b", "c")))))
		})
	}
}
