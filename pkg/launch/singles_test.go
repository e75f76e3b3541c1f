// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	coreoptions "sigs.k8s.io/karpenter/pkg/operator/options"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// TestKarpenterAddsAnOfferingsOverride fails when an override replaces the capacity, as Karpenter 1.15 has it: then modes.fewer must
// be the lower number itself.
func TestKarpenterAddsAnOfferingsOverride(t *testing.T) {
	pods := func(n int64) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(n, resource.DecimalSI)}
	}
	it := &cloudprovider.InstanceType{
		Capacity: pods(110), Overhead: &cloudprovider.InstanceTypeOverhead{},
		Offerings: cloudprovider.Offerings{{Available: true, CapacityOverride: pods(-90)}},
	}
	groups := it.AllocatableOfferingsList()
	require.EqualValues(t, 20, groups[1].Allocatable.Pods().Value())
	require.EqualValues(t, 110, groups[0].Allocatable.Pods().Value())
}

// scattered leaves addresses of a /24, and no /28.
func scattered(subnet, cidr string) *podnetwork.Snapshot {
	p := netip.MustParsePrefix(cidr)
	var enis []podnetwork.ENI
	for i, address := 0, p.Addr(); i < 1<<(32-p.Bits()); i, address = i+1, address.Next() {
		if i%16 == 8 {
			enis = append(enis, podnetwork.ENI{Addresses: []netip.Prefix{netip.PrefixFrom(address, 32)}})
		}
	}
	return podnetwork.NewSnapshot(subnet, p, enis, podnetwork.Reservations{}, time.Now())
}

// short has no /28 left in the first of three zones.
func short(t *testing.T, api *ec2.Client, change ...func(*v1alpha1.PodNetwork)) (context.Context, launch.Lister, *podnetwork.Ledger) {
	ctx := coreoptions.ToContext(testContext(), &coreoptions.Options{})
	n, ledger := threeZones(1)
	for _, c := range change {
		c(n)
	}
	ledger.Observe(scattered("subnet-00", "100.64.0.0/24"))
	return ctx, launch.Lister{Provider: lister(ctx, t, api,
		launch.InstanceTypes{Upstream: instancetype.NewDefaultResolver("us-east-1"), Network: always(n)}, launch.NewOfferings(always(n), ledger))}, ledger
}

func named(its []*cloudprovider.InstanceType, name string) *cloudprovider.InstanceType {
	it, _ := lo.Find(its, func(it *cloudprovider.InstanceType) bool { return it.Name == name })
	return it
}

// most pods that Karpenter puts on a new node of the type, by its own rules. 0: it has no offering that fits.
func mostPods(it *cloudprovider.InstanceType, required map[string]string) int64 {
	requirements := scheduling.NewLabelRequirements(required)
	if it.Requirements.Intersects(requirements) != nil {
		return 0
	}
	var most int64
	for _, group := range it.AllocatableOfferingsList() {
		if group.Offerings.HasCompatible(requirements) && resources.Fits(corev1.ResourceList{}, group.Allocatable) {
			most = max(most, group.Allocatable.Pods().Value())
		}
	}
	return most
}

func TestWhereNoBlockIsLeftTypesAreOfferedWithSingleAddresses(t *testing.T) {
	api := newSimulator(t)
	ctx, l, ledger := short(t, api)
	class := inThreeZones()
	full, free := map[string]string{corev1.LabelTopologyZone: zones[0]}, map[string]string{corev1.LabelTopologyZone: zones[1]}
	with := func(labels map[string]string, key, value string) map[string]string {
		return lo.Assign(labels, map[string]string{key: value})
	}
	list, err := l.List(ctx, class)
	require.NoError(t, err)
	require.Greater(t, len(list), 1000)

	for name, test := range map[string]struct {
		instanceType string
		required     map[string]string
		pods         int64
	}{
		"the zone without a /28":                      {"m5.large", full, 20},
		"another zone":                                {"m5.large", free, 110},
		"any zone":                                    {"m5.large", nil, 110},
		"that many pods, there":                       {"m5.large", with(full, v1alpha1.LabelMaxPods, "110"), 0},
		"that many pods, elsewhere":                   {"m5.large", with(free, v1alpha1.LabelMaxPods, "110"), 110},
		"as few, where there are /28s":                {"m5.large", with(free, v1alpha1.LabelMaxPods, "20"), 0},
		"prefixes, there":                             {"m5.large", with(full, v1alpha1.LabelPrefixDelegation, "Enabled"), 0},
		"single addresses, anywhere":                  {"m5.large", map[string]string{v1alpha1.LabelPrefixDelegation: "Disabled"}, 20},
		"a type that has as many pods either way":     {"m5.4xlarge", full, 110},
		"a type that needs more than there are":       {"m5.24xlarge", full, 0},
		"the same where there are /28s":               {"m5.24xlarge", free, 250},
		"a type that takes no prefixes":               {"m4.large", full, 11},
		"the same where there are /28s, without them": {"m4.large", free, 11},
	} {
		require.Equal(t, test.pods, mostPods(named(list, test.instanceType), test.required), name)
	}
	for _, node := range []map[string]string{
		with(full, v1alpha1.LabelMaxPods, "20"), with(full, v1alpha1.LabelMaxPods, "110"), with(free, v1alpha1.LabelMaxPods, "50"),
	} {
		require.True(t, named(list, "m5.large").Offerings.HasCompatible(scheduling.NewLabelRequirements(node)), "a running node finds its type: %v", node)
	}

	types, err := l.ForLaunch(ctx, class)
	require.NoError(t, err)
	usual, single := named(types.Usual, "m5.large"), named(types.Singles, "m5.large")
	require.Equal(t, "110", label(usual, v1alpha1.LabelMaxPods))
	require.EqualValues(t, 20, single.Capacity.Pods().Value())
	require.EqualValues(t, 11*20+255, memoryMiB(single.Overhead.KubeReserved))
	require.Equal(t, map[string]string{"max-pods": "20", "prefixes": "Disabled"},
		map[string]string{"max-pods": label(single, v1alpha1.LabelMaxPods), "prefixes": label(single, v1alpha1.LabelPrefixDelegation)})
	inZone := func(o *cloudprovider.Offering, _ int) string { return o.Zone() }
	require.ElementsMatch(t, []string{zones[0]}, lo.Uniq(lo.Map(single.Offerings.Available(), inZone)))
	require.ElementsMatch(t, zones[1:], lo.Uniq(lo.Map(usual.Offerings.Available(), inZone)))
	require.Nil(t, named(types.Singles, "m4.large"))

	held := []podnetwork.Place{{Zone: zones[0], ENIConfig: zones[0], Subnet: "subnet-00"}}
	launching, err := l.List(launch.HoldingSingles(ctx, held, []string{"m5.large"}), class)
	require.NoError(t, err)
	allocatable := named(launching, "m5.large").Allocatable()
	require.EqualValues(t, 20, allocatable.Pods().Value(), "upstream launches what was scheduled")
	require.Len(t, lo.Filter(launching, func(it *cloudprovider.InstanceType, _ int) bool { return len(it.Offerings.Available()) > 0 }), 1)

	ledger.Observe(podnetwork.NewSnapshot("subnet-00", prefix("100.64.0.0/19"), nil, podnetwork.Reservations{}, time.Now()))
	list, err = l.List(ctx, class)
	require.NoError(t, err)
	again := named(list, "m5.large")
	require.EqualValues(t, 110, mostPods(again, full))
	require.Equal(t, []string{"110"}, again.Requirements.Get(v1alpha1.LabelMaxPods).Values(), "upstream's own is unchanged")
	require.Len(t, again.AllocatableOfferingsList(), 1)
	require.True(t, again.Offerings.HasCompatible(scheduling.NewLabelRequirements(with(full, v1alpha1.LabelMaxPods, "20"))), "a node from the shortage stays")
}

func TestSingleAddressesThatArePromisedOrNotAllowedAreNotOffered(t *testing.T) {
	api := newSimulator(t)
	for name, change := range map[string]func(*v1alpha1.PodNetwork){
		"aws-node serves the nodes": func(n *v1alpha1.PodNetwork) { n.Spec.Agent = v1alpha1.AgentVPCCNI },
		"nobody serves them": func(n *v1alpha1.PodNetwork) {
			n.StatusConditions().SetFalse(v1alpha1.ConditionAgentReady, "VPCCNIMissing", "there is no DaemonSet aws-node")
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, l, _ := short(t, api, change)
			list, err := l.List(ctx, inThreeZones())
			require.NoError(t, err)
			require.Zero(t, mostPods(named(list, "m5.large"), map[string]string{corev1.LabelTopologyZone: zones[0]}))
			require.Len(t, named(list, "m5.large").AllocatableOfferingsList(), 1)
			types, err := l.ForLaunch(ctx, inThreeZones())
			require.NoError(t, err)
			require.Empty(t, types.Singles)
		})
	}
	t.Run("nodes were promised the blocks that they may spoil", func(t *testing.T) {
		ctx, l, ledger := short(t, api)
		ledger.Observe(podnetwork.NewSnapshot("subnet-00", prefix("100.64.0.0/24"), nil, podnetwork.Reservations{}, time.Now()))
		ledger.Stamped("other", "subnet-00", launch.NeedOf(ctx, network(), resolve(t, network(), inThreeZones(), "m5.large")[0]), "i-1")
		list, err := l.List(ctx, inThreeZones())
		require.NoError(t, err)
		require.Zero(t, mostPods(named(list, "m5.large"), map[string]string{corev1.LabelTopologyZone: zones[0]}), "6 of 14 blocks are left, 20 may be spoilt")
	})
}

// eachGeometry names an instance type of each.
func eachGeometry(t *testing.T) []string {
	byGeometry := map[podcapacity.Geometry]string{}
	for _, name := range instancetypes.Names() {
		byGeometry[podcapacity.GeometryOf(info(t, name))] = name
	}
	return lo.Values(byGeometry)
}

// TestSinglesOfEachGeometryAreWhatItsLaunchGives over all geometries of EC2: what Karpenter schedules with is computed from labels, what a node
// is launched with by the resolver.
func TestSinglesOfEachGeometryAreWhatItsLaunchGives(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.PodNetwork){
		"recommended": func(*v1alpha1.PodNetwork) {},
		"maximum":     func(n *v1alpha1.PodNetwork) { n.Spec.MaxPods.Policy = v1alpha1.MaxPodsMaximum },
		"limited":     func(n *v1alpha1.PodNetwork) { n.Spec.MaxPods.Limit = awssdk.Int32(16) },
	} {
		n := network(change)
		class := nodeClass(ec2nodeclass.AMIFamilyAL2023, &ec2nodeclass.KubeletConfiguration{PodsPerCore: awssdk.Int32(20)})
		resolver := launch.InstanceTypes{Upstream: instancetype.NewDefaultResolver("us-east-1"), Network: always(n)}
		require.NotEqual(t, resolver.CacheKey(class), resolver.CacheKey(launch.OfSingles(class)))
		compared := 0
		for _, it := range resolve(t, n, class, eachGeometry(t)...) {
			singles, ok := launch.SinglesOf(testContext(), n, it)
			single := resolver.Resolve(testContext(), info(t, it.Name), []string{zone}, launch.OfSingles(class))
			require.Equal(t, ok, label(it, v1alpha1.LabelPrefixDelegation) == "Enabled" && it.Capacity.Pods().Value() > 0, it.Name)
			if !ok {
				continue
			}
			compared++
			require.Equal(t, fmt.Sprint(singles.MaxPods), label(single, v1alpha1.LabelMaxPods), "%s, %s", name, it.Name)
			require.Equal(t, singles.Need, launch.NeedOf(testContext(), n, single), "%s, %s", name, it.Name)
			require.Zero(t, singles.Need.Prefixes)
		}
		require.Greater(t, compared, 50)
	}
}
