// SPDX-License-Identifier: Apache-2.0

package cloudprovider_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/pendingpods"
	"github.com/dovetail-dev/dovetail/pkg/launch"
)

// A node of the instance types here needs seven /28, or 20 single addresses and more.
const (
	roomy = "100.64.32.0/19"
	tight = "100.64.0.0/28" // 11 addresses, none of them in a block that is whole
)

type ladderTest struct {
	name   string
	change func(*v1alpha1.PodNetwork)
	// subnets of ENIConfigs that are named ZONE-N. EC2 has refused those of one, with a code.
	subnets       map[string]string
	refused, code string
	// selector is the pod's; default zone a.
	selector map[string]string
	// reservedENIs are left to others.
	reservedENIs int
	// told of each ENIConfig, or instead, and why offerings are withheld.
	told    map[string]string
	instead string
	reasons []string
}

// TestEachStepOfTheLadderIsToldOnThePod has pods that must go to zone a. Where a step of the ladder helps, nothing is told; where
// none is left, the pod's event and the metrics say what each pod subnet lacks.
func TestEachStepOfTheLadderIsToldOnThePod(t *testing.T) {
	config := chartstest.StartAPIServer(t)
	api, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "default"}}
	require.NoError(t, api.Create(t.Context(), account))

	zoneA := map[string]string{corev1.LabelTopologyZone: "us-east-1a"}
	byLabel := func(n *v1alpha1.PodNetwork) { n.Spec.ENIConfigs.NodeLabel = v1alpha1.LabelENIConfig }
	tests := []ladderTest{
		{name: "the first ENIConfig has /28s", change: byLabel, subnets: map[string]string{"us-east-1a-0": roomy}},
		{
			name: "another ENIConfig of the zone has /28s", change: byLabel,
			subnets: map[string]string{"us-east-1a-0": tight, "us-east-1a-1": roomy}, reasons: []string{launch.ReasonPodSubnetFull},
		},
		{
			name: "another zone has /28s, and the pod may go there", change: byLabel, selector: map[string]string{corev1.LabelOSStable: "linux"},
			subnets: map[string]string{"us-east-1a-0": tight, "us-east-1b-0": roomy}, reasons: []string{launch.ReasonPodSubnetFull},
		},
		{
			name: "another zone has /28s, and the pod may not go there", change: byLabel,
			subnets: map[string]string{"us-east-1a-0": tight, "us-east-1b-0": roomy}, reasons: []string{launch.ReasonPodSubnetFull},
			told: map[string]string{"us-east-1a-0": "0 /28 blocks free, 0 of them set aside for nodes, 7 needed"},
		},
		{
			name: "no ENIConfig of the zone has /28s", change: byLabel,
			subnets: map[string]string{"us-east-1a-0": tight, "us-east-1a-1": "100.64.2.0/28"}, reasons: []string{launch.ReasonPodSubnetFull},
			told: map[string]string{"us-east-1a-0": "0 /28 blocks free", "us-east-1a-1": "0 /28 blocks free"},
		},
		{
			name: "the pod names an ENIConfig that has none", change: byLabel, selector: map[string]string{v1alpha1.LabelENIConfig: "us-east-1a-0"},
			subnets: map[string]string{"us-east-1a-0": tight, "us-east-1a-1": roomy}, reasons: []string{launch.ReasonPodSubnetFull},
			told: map[string]string{"us-east-1a-0": "0 /28 blocks free"},
		},
		{
			name: "a pod subnet has single addresses, and too few /28s", change: byLabel,
			subnets: map[string]string{"us-east-1a-0": "100.64.0.0/25"}, reasons: []string{launch.ReasonSingleAddresses},
		},
		{
			name: "EC2 refuses /28s that seem to be there", change: byLabel, subnets: map[string]string{"us-east-1a-0": roomy},
			refused: "us-east-1a-0", code: "InsufficientCidrBlocks", reasons: []string{launch.ReasonSingleAddresses},
		},
		{
			name: "EC2 refuses addresses that seem to be there", change: byLabel, subnets: map[string]string{"us-east-1a-0": roomy},
			refused: "us-east-1a-0", code: "InsufficientFreeAddressesInSubnet", reasons: []string{launch.ReasonPodSubnetRefused},
			told: map[string]string{"us-east-1a-0": "EC2 refused addresses of it with InsufficientFreeAddressesInSubnet lately"},
		},
		{
			name: "single addresses are asked for, and there are too few",
			change: func(n *v1alpha1.PodNetwork) {
				byLabel(n)
				n.Spec.Addressing.PrefixDelegation = v1alpha1.Disabled
			},
			subnets: map[string]string{"us-east-1a-0": tight}, reasons: []string{launch.ReasonPodSubnetFull},
			told: map[string]string{"us-east-1a-0": "11 addresses free, 0 of them set aside for nodes, 20 needed"},
		},
	}
	tests = append(tests, ladderTest{
		name: "nobody would serve the node", subnets: map[string]string{"us-east-1a-0": roomy}, reasons: []string{launch.ReasonAgentNotReady},
		change: func(n *v1alpha1.PodNetwork) {
			byLabel(n)
			n.StatusConditions().SetFalse(v1alpha1.ConditionAgentReady, "VPCCNIMissing", "there is no DaemonSet aws-node")
		},
		instead: "nobody would give its pods addresses: there is no DaemonSet aws-node",
	}, ladderTest{
		name: "the instance types have no ENI for pods", change: byLabel, subnets: map[string]string{"us-east-1a-0": roomy}, reservedENIs: 2,
		selector: map[string]string{corev1.LabelInstanceTypeStable: "m5.large"}, reasons: []string{launch.ReasonNoPodENI},
		instead: "instance types m5.large have no network interface for pods: allow others",
	})
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRegion(t, config)
			r.network.Name = fmt.Sprint("ladder-", i) // metrics are by network
			test.change(r.network)
			ids, eniConfigs := map[string]string{}, []string{}
			for eniConfig := range test.subnets {
				eniConfigs = append(eniConfigs, eniConfig)
			}
			slices.Sort(eniConfigs)
			p := r.controller(time.Now().Add(-time.Minute))
			for _, eniConfig := range eniConfigs {
				ids[eniConfig] = r.podSubnet(eniConfig[:len("us-east-1a")], eniConfig, test.subnets[eniConfig])
				require.NoError(t, p.PodSubnets.Ensure(r.ctx(), ids[eniConfig]))
			}
			if test.refused != "" {
				p.PodSubnets.Ledger.MarkRefused(ids[test.refused], test.code)
			}
			r.nodePool("default")
			selector := test.selector
			if selector == nil {
				selector = zoneA
			}
			r.pending("waits", corev1.PodSpec{NodeSelector: selector})
			t.Cleanup(func() {
				require.NoError(t, r.Delete(context.Background(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "waits"}}))
			})
			r.clock.Step(time.Minute)
			recorder := record.NewFakeRecorder(10)
			look := pendingpods.NewController(pendingpods.Params{Client: r.Client, Provider: p, Recorder: events.NewRecorder(recorder), Clock: r.clock})
			ctx := options.ToContext(r.ctx(), &options.Options{ClusterName: "test", VMMemoryOverheadPercent: 0.075, ReservedENIs: test.reservedENIs})
			_, err := look.Reconcile(ctx)
			require.NoError(t, err)

			close(recorder.Events)
			var told []string
			for event := range recorder.Events {
				told = append(told, event)
			}
			require.Equal(t, test.reasons, reasonsWithheld(t, r.network.Name))
			waiting := gaugeOf(t, "dovetail_pods_without_addresses", r.network.Name)
			if len(test.told) == 0 && test.instead == "" {
				require.Empty(t, told)
				require.Empty(t, waiting)
				return
			}
			require.Len(t, told, 1)
			require.Len(t, waiting, 1)
			require.True(t, strings.HasPrefix(told[0], "Warning "+pendingpods.ReasonNoPodAddresses+" no node is launched on pod network "+r.network.Name+": "), told[0])
			require.Contains(t, told[0], test.instead)
			for _, eniConfig := range eniConfigs {
				place := fmt.Sprintf("pod subnet %s (zone %s, ENIConfig %s): ", ids[eniConfig], eniConfig[:len("us-east-1a")], eniConfig)
				if why, blamed := test.told[eniConfig]; blamed {
					require.Contains(t, told[0], place+why)
				} else {
					require.NotContains(t, told[0], place)
				}
			}
		})
	}
}

// reasonsWithheld lists why offerings of a pod network are withheld, sorted.
func reasonsWithheld(t *testing.T, network string) (reasons []string) {
	t.Helper()
	for _, labels := range gaugeOf(t, "dovetail_unavailable_offerings", network) {
		if !slices.Contains(reasons, labels["reason"]) && labels["reason"] != launch.ReasonNoENIConfig { // zones without one
			reasons = append(reasons, labels["reason"])
		}
	}
	slices.Sort(reasons)
	return reasons
}

// gaugeOf a pod network returns the labels of those series of a metric that are above zero.
func gaugeOf(t *testing.T, metric, network string) (series []map[string]string) {
	t.Helper()
	families, err := crmetrics.Registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != metric {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, pair := range m.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			if labels["pod_network"] == network && m.GetGauge().GetValue() > 0 {
				series = append(series, labels)
			}
		}
	}
	return series
}
