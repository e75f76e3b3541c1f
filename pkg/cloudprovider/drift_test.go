// SPDX-License-Identifier: Apache-2.0

package cloudprovider_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	core "sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cloudprovider"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// settle makes the network one that its controller has found ready as it now is.
func settle(network *v1alpha1.PodNetwork) {
	network.StatusConditions().SetTrue(v1alpha1.ConditionENIConfigsReady)
	network.StatusConditions().SetTrue(v1alpha1.ConditionSubnetsReady)
	network.StatusConditions().SetTrue(v1alpha1.ConditionAgentReady)
}

func requireDrift(t *testing.T, p *cloudprovider.CloudProvider, claim *karpv1.NodeClaim, want core.DriftReason) {
	t.Helper()
	reason, err := p.IsDrifted(t.Context(), claim)
	require.NoError(t, err)
	require.Equal(t, want, reason)
}

func TestDrift(t *testing.T) {
	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "pods", Generation: 1}}
	p := provider(t, &market{}, network)
	created, err := p.Create(withOptions(t.Context()), claim())
	require.NoError(t, err)

	t.Run("a node as the network wants it stays", func(t *testing.T) {
		settle(network)
		requireDrift(t, p, created, "")
	})
	t.Run("one that was launched otherwise is replaced, once the network is ready as edited", func(t *testing.T) {
		network.Spec.Addressing.PrefixDelegation = v1alpha1.Disabled
		network.Generation++
		requireDrift(t, p, created, "")
		settle(network)
		requireDrift(t, p, created, podnetwork.DriftPodNetwork)
		network.StatusConditions().SetFalse(v1alpha1.ConditionSubnetsReady, "SubnetNotFound", "no such subnet")
		requireDrift(t, p, created, "")
		settle(network)
		network.Spec.Addressing.PrefixDelegation = ""
	})
	t.Run("one from before the network is replaced too", func(t *testing.T) {
		requireDrift(t, p, claim(), podnetwork.DriftPodNetwork)
	})
	t.Run("a deleted network's nodes are replaced", func(t *testing.T) {
		p.Network = func(context.Context, client.Object) (*v1alpha1.PodNetwork, error) { return nil, nil }
		requireDrift(t, p, created, podnetwork.DriftPodNetwork)
		requireDrift(t, p, claim(), "")
	})
	t.Run("those of a network whose selector is wrong are not", func(t *testing.T) {
		left := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "pods"}}
		require.NoError(t, p.Client.(client.Client).Create(t.Context(), left))
		requireDrift(t, p, created, "")
	})
}

func TestANodeThatReportsAnotherMaxPodsIsReplacedAsLongAsThatHelps(t *testing.T) {
	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "pods"}}
	settle(network)
	p := provider(t, &market{}, network)
	c := p.Client.(client.Client)
	// node that was launched for 110 pods, so many minutes ago.
	node := func(name string, pods string, minutes time.Duration) *karpv1.NodeClaim {
		created, err := p.Create(withOptions(t.Context()), claim())
		require.NoError(t, err)
		created.Name, created.UID = name, types.UID(name)
		created.CreationTimestamp = metav1.NewTime(time.Now().Add(-minutes * time.Minute))
		created.Status.NodeName = name
		require.NoError(t, c.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
			Capacity: corev1.ResourceList{corev1.ResourcePods: resource.MustParse(pods)},
		}}))
		return created
	}
	first, second := node("first", "58", 60), node("second", "58", 50)
	requireDrift(t, p, first, "") // not initialized
	for _, claim := range []*karpv1.NodeClaim{first, second} {
		claim.StatusConditions().SetTrue(karpv1.ConditionTypeInitialized)
	}
	requireDrift(t, p, first, cloudprovider.DriftMaxPods)
	requireDrift(t, p, second, "") // whether the first one's replacement is right is not known
	requireDrift(t, p, first, cloudprovider.DriftMaxPods)

	wrong := node("wrong", "58", 2)
	wrong.StatusConditions().SetTrue(karpv1.ConditionTypeInitialized)
	requireDrift(t, p, wrong, "") // the AMI overrides max-pods: this would never end
	requireDrift(t, p, second, "")

	right := node("right", "110", 1)
	right.StatusConditions().SetTrue(karpv1.ConditionTypeInitialized)
	requireDrift(t, p, right, "")
	requireDrift(t, p, second, cloudprovider.DriftMaxPods)
}
