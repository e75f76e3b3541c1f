// SPDX-License-Identifier: Apache-2.0

package benchprovisioner

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	core "sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	"sigs.k8s.io/karpenter/pkg/operator/injection"
)

// scheduleFigure is a figure of scheduling rounds with what they came to.
type scheduleFigure struct {
	figure
	Pods  int `json:"pods"`
	Nodes int `json:"nodes"`
}

// schedulePods has core's scheduler place pods on new nodes of each contender's instance types.
func schedulePods(t *testing.T, w *world) (figures []scheduleFigure) {
	contenders := w.contenders(withoutNetwork, oneENIConfig, threeENIConfigs)
	pending := diversePods(*pods)
	taken, made := make([]samples, len(contenders)), make([]int, len(contenders))
	for round := range *rounds + 1 {
		for i, c := range contenders {
			took, nodes := schedule(t, c, pending)
			if round > 0 {
				taken[i].add(took, allocation{})
				made[i] = nodes
			}
		}
	}
	var plain []figure
	for i, c := range contenders {
		plain = append(plain, taken[i].figure(c.name, plain, i))
		figures = append(figures, scheduleFigure{figure: plain[i], Pods: len(pending), Nodes: made[i]})
	}
	return figures
}

// schedule as core's Provisioner does it after it has listed the instance types.
func schedule(t *testing.T, c contender, pending []*corev1.Pod) (took time.Duration, nodes int) {
	ctx, pool := injection.WithControllerName(c.ctx, "provisioner"), nodePool(c.class)
	instanceTypes, err := c.cloudProvider.GetInstanceTypes(ctx, pool)
	require.NoError(t, err)
	pools, offered := []*karpv1.NodePool{pool}, map[string][]*core.InstanceType{pool.Name: instanceTypes}
	op := c.operator
	cluster := state.NewCluster(op.Clock, op.GetClient(), c.cloudProvider)
	start := time.Now()
	topology, err := scheduling.NewTopology(ctx, op.GetClient(), cluster, nil, pools, offered, pending)
	require.NoError(t, err)
	scheduler := scheduling.NewScheduler(ctx, op.GetClient(), pools, cluster, nil, topology, offered, nil, op.EventRecorder, op.Clock, nil, nil,
		scheduling.NumConcurrentReconciles(5))
	results, err := scheduler.Solve(ctx, pending)
	took = time.Since(start)
	require.NoError(t, err)
	require.Empty(t, results.PodErrors)
	return took, len(results.NewNodeClaims)
}

// diversePods are, in equal parts, of five kinds: without constraints, spread over zones, spread over nodes, together in a zone, and
// one a node.
func diversePods(n int) []*corev1.Pod {
	random := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // the same in each run
	all := make([]*corev1.Pod, n)
	for i := range all {
		kind, app := i%5, fmt.Sprint("app-", random.IntN(7))
		labels := map[string]string{"app": app, "kind": fmt.Sprint("kind-", kind)}
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("pod-", i), UID: types.UID(fmt.Sprint("uid-", i)), Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "pod", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU:    *resource.NewMilliQuantity(100*int64(1+random.IntN(15)), resource.DecimalSI),
				corev1.ResourceMemory: *resource.NewQuantity(128<<20*int64(1+random.IntN(32)), resource.BinarySI),
			}}}}},
		}
		same := &metav1.LabelSelector{MatchLabels: labels}
		spread := func(key string) []corev1.TopologySpreadConstraint {
			return []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: same}}
		}
		terms := func(key string) []corev1.PodAffinityTerm {
			return []corev1.PodAffinityTerm{{LabelSelector: same, TopologyKey: key}}
		}
		switch kind {
		case 1:
			pod.Spec.TopologySpreadConstraints = spread(corev1.LabelTopologyZone)
		case 2:
			pod.Spec.TopologySpreadConstraints = spread(corev1.LabelHostname)
		case 3:
			pod.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms(corev1.LabelTopologyZone)}}
		case 4:
			pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms(corev1.LabelHostname)}}
		}
		all[i] = pod
	}
	return all
}
