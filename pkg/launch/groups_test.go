// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	coreoptions "sigs.k8s.io/karpenter/pkg/operator/options"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
)

// askedOf are requirements that NodeClaims have, and some that no instance type meets.
var askedOf = []karpv1.NodeSelectorRequirementWithMinValues{
	{Key: corev1.LabelArchStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"arm64"}},
	{Key: karpv1.CapacityTypeLabelKey, Operator: corev1.NodeSelectorOpIn, Values: []string{karpv1.CapacityTypeSpot}},
	{Key: karpv1.CapacityTypeLabelKey, Operator: corev1.NodeSelectorOpNotIn, Values: []string{karpv1.CapacityTypeSpot}},
	{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"us-east-1a", "us-east-1b"}},
	{Key: v1alpha1.LabelENIConfig, Operator: corev1.NodeSelectorOpIn, Values: []string{"us-east-1b-1"}},
	{Key: v1alpha1.LabelMaxPods, Operator: corev1.NodeSelectorOpGt, Values: []string{"109"}},
	{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"m5.large", "c7g.medium", "t3.small", "p5.48xlarge"}},
	{Key: ec2nodeclass.LabelInstanceGeneration, Operator: corev1.NodeSelectorOpGt, Values: []string{"6"}},
	{Key: ec2nodeclass.LabelInstanceGPUName, Operator: corev1.NodeSelectorOpDoesNotExist},
	{Key: ec2nodeclass.LabelInstanceGPUName, Operator: corev1.NodeSelectorOpExists},
	{Key: ec2nodeclass.LabelInstanceLocalNVME, Operator: corev1.NodeSelectorOpNotIn, Values: []string{"118"}},
	{Key: "example.com/team", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}},
}

func TestAGroupHasTheInstanceTypesThatKarpenterFindsCompatibleAtTheirPrices(t *testing.T) {
	ctx := coreoptions.ToContext(testContext(), &coreoptions.Options{})
	pods, ledger := threeZones(3)
	in := launch.NetworksIn(&cacheReader{networks: v1alpha1.PodNetworkList{Items: []v1alpha1.PodNetwork{*pods}}})
	listed, err := lister(ctx, t, newSimulator(t), launch.InstanceTypes{Upstream: instancetype.NewDefaultResolver("us-east-1"), Network: in}, launch.NewOfferings(in, ledger)).List(ctx, inThreeZones())
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(5, 7)) //nolint:gosec // the same in each run
	some := 0
	for range 100 {
		claim := &karpv1.NodeClaim{}
		for _, r := range askedOf {
			if random.IntN(4) == 0 {
				claim.Spec.Requirements = append(claim.Spec.Requirements, r)
			}
		}
		claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(fmt.Sprint(1<<random.IntN(9), "Gi"))}
		names, prices := compatible(listed, claim)
		group, ok := launch.Launchable(listed, claim)
		require.Equal(t, len(names) > 0, ok, claim.Spec.Requirements)
		if !ok {
			continue
		}
		some++
		require.Equal(t, names, group.Names())
		require.Equal(t, prices, group.Prices)
		require.Equal(t, slices.Min(lo.Values(prices)), group.Price())
		var grouped []string
		for _, g := range launch.Groups(listed, claim) {
			grouped = append(grouped, g.Names()...)
		}
		slices.Sort(grouped)
		require.Equal(t, names, grouped)
	}
	require.Greater(t, some, 20)
}

// compatible is core's word, type by type.
func compatible(listed cloudprovider.InstanceTypes, claim *karpv1.NodeClaim) (names []string, prices map[string]float64) {
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
	prices = map[string]float64{}
	for _, it := range listed {
		offerings := it.Offerings.Available().Compatible(requirements)
		if !requirements.IsCompatible(it.Requirements, scheduling.AllowUndefinedWellKnownLabels) || !resources.Fits(claim.Spec.Resources.Requests, it.Allocatable()) || len(offerings) == 0 {
			continue
		}
		names = append(names, it.Name)
		for _, o := range offerings {
			known, ok := prices[o.Zone()]
			prices[o.Zone()] = min(o.Price, lo.Ternary(ok, known, math.Inf(1)))
		}
	}
	slices.Sort(names)
	return names, prices
}

func TestAllZonesAndCapacityTypesAreOfferedBeforeTheNextENIConfig(t *testing.T) {
	ctx := coreoptions.ToContext(testContext(), &coreoptions.Options{})
	pods, ledger := threeZones(3)
	in := launch.NetworksIn(&cacheReader{networks: v1alpha1.PodNetworkList{Items: []v1alpha1.PodNetwork{*pods}}})
	api, upstream := newSimulator(t), instancetype.NewDefaultResolver("us-east-1")
	plain, err := lister(ctx, t, api, upstream).Get(ctx, inThreeZones(), "m5.large")
	require.NoError(t, err)
	own, err := lister(ctx, t, api, launch.InstanceTypes{Upstream: upstream, Network: in}, launch.NewOfferings(in, ledger)).Get(ctx, inThreeZones(), "m5.large")
	require.NoError(t, err)
	of := func(offerings cloudprovider.Offerings) (all []string) {
		for _, o := range offerings {
			all = append(all, o.Zone()+" "+o.CapacityType())
		}
		return all
	}
	want, got := of(plain.Offerings.Available()), of(own.Offerings.Available())
	require.Len(t, got, 3*len(want))
	for offered := range slices.Chunk(got, len(want)) {
		require.ElementsMatch(t, want, offered)
	}
}
