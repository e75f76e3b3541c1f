// SPDX-License-Identifier: Apache-2.0

package podnetwork_test

import (
	"testing"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

func TestANodeIsOutdatedWhenItsNetworkWouldLaunchItOtherwise(t *testing.T) {
	network := func(change ...func(*v1alpha1.PodNetwork)) *v1alpha1.PodNetwork {
		n := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
		n.Status.Zones = []v1alpha1.ZoneStatus{
			{Zone: "a", ENIConfig: "a", Subnet: "subnet-1"}, {Zone: "a", ENIConfig: "a-big", Subnet: "subnet-2"}, {Zone: "b", ENIConfig: "b", Subnet: "subnet-3"},
		}
		for _, f := range change {
			f(n)
		}
		return n
	}
	launched := func(labels map[string]string) *karpv1.NodeClaim {
		claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelPodNetwork: "default", "topology.kubernetes.io/zone": "a"}}}
		for key, value := range labels {
			claim.Labels[key] = value
		}
		claim.Annotations = podnetwork.Stamp(network(), claim)
		return claim
	}
	before := &karpv1.NodeClaim{}
	zones := func(zones ...v1alpha1.ZoneStatus) func(*v1alpha1.PodNetwork) {
		return func(n *v1alpha1.PodNetwork) { n.Status.Zones = zones }
	}
	tests := map[string]struct {
		network *v1alpha1.PodNetwork
		claim   *karpv1.NodeClaim
		want    cloudprovider.DriftReason
	}{
		"as launched": {network(), launched(nil), ""},
		"room that comes and goes is no change": {
			network(zones(v1alpha1.ZoneStatus{Zone: "a", ENIConfig: "a", Subnet: "subnet-1", FreePrefixes: 3})), launched(nil), "",
		},
		"SNAT is applied in place": {network(func(n *v1alpha1.PodNetwork) {
			n.Spec.SNAT.Policy = v1alpha1.SNATNone
		}), launched(nil), ""},
		"other addressing":                {network(func(n *v1alpha1.PodNetwork) { n.Spec.Addressing.PrefixDelegation = v1alpha1.Disabled }), launched(nil), podnetwork.DriftPodNetwork},
		"another agent":                   {network(func(n *v1alpha1.PodNetwork) { n.Spec.Agent = v1alpha1.AgentVPCCNI }), launched(nil), podnetwork.DriftPodNetwork},
		"another network":                 {network(func(n *v1alpha1.PodNetwork) { n.Name = "other" }), launched(nil), podnetwork.DriftPodNetwork},
		"the network is gone":             {nil, launched(nil), podnetwork.DriftPodNetwork},
		"launched before the network":     {network(), before, podnetwork.DriftPodNetwork},
		"never on a network":              {nil, before, ""},
		"another subnet in the ENIConfig": {network(zones(v1alpha1.ZoneStatus{Zone: "a", ENIConfig: "a", Subnet: "subnet-9"})), launched(nil), podnetwork.DriftPodSubnet},
		"another set of ENIConfigs":       {network(zones(v1alpha1.ZoneStatus{Zone: "a", ENIConfig: "a-new", Subnet: "subnet-1"})), launched(nil), podnetwork.DriftPodSubnet},
		"one ENIConfig more":              {network(zones(append(network().Status.Zones, v1alpha1.ZoneStatus{Zone: "a", ENIConfig: "a-new"})...)), launched(nil), ""},
		"the ENIConfig that was asked for": {
			network(zones(v1alpha1.ZoneStatus{Zone: "a", ENIConfig: "a-big", Subnet: "subnet-2"})), launched(map[string]string{v1alpha1.LabelExternalENIConfig: "a-big"}), "",
		},
		"the zone has none any more: there is nothing better": {network(zones(v1alpha1.ZoneStatus{Zone: "b", ENIConfig: "b", Subnet: "subnet-3"})), launched(nil), ""},
		"launched before subnets were noted": {network(zones(v1alpha1.ZoneStatus{Zone: "a", ENIConfig: "a", Subnet: "subnet-9"})), func() *karpv1.NodeClaim {
			claim := launched(nil)
			delete(claim.Annotations, v1alpha1.AnnotationLaunchedPodSubnet)
			return claim
		}(), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, podnetwork.Outdated(test.network, test.claim)) })
	}
}

func TestANetworkIsSettledWhenItsPresentGenerationIsReady(t *testing.T) {
	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default", Generation: 1}}
	require.False(t, podnetwork.Settled(network), "the controller has not seen it")
	network.StatusConditions().SetTrue(v1alpha1.ConditionENIConfigsReady)
	network.StatusConditions().SetTrue(v1alpha1.ConditionSubnetsReady)
	network.StatusConditions().SetTrue(v1alpha1.ConditionAgentReady)
	require.True(t, podnetwork.Settled(network))
	network.Generation++
	require.False(t, podnetwork.Settled(network), "edited since")
	network.StatusConditions().SetFalse(status.ConditionReady, "SubnetNotFound", "no such subnet")
	require.False(t, podnetwork.Settled(network))
}
