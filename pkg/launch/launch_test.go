// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype/offering"
	"github.com/pelletier/go-toml/v2"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

func TestMain(m *testing.M) {
	apis.Register(scheme.Scheme)
	m.Run()
}

const zone = "us-east-1a"

func network(change ...func(*v1alpha1.PodNetwork)) *v1alpha1.PodNetwork {
	n := &v1alpha1.PodNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Status:     v1alpha1.PodNetworkStatus{Zones: []v1alpha1.ZoneStatus{{Zone: zone, ENIConfig: zone, Subnet: "subnet-1"}}},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func always(n *v1alpha1.PodNetwork) launch.NetworkOf {
	return func(context.Context, client.Object) (*v1alpha1.PodNetwork, error) { return n, nil }
}

func nodeClass(family string, kubelet *ec2nodeclass.KubeletConfiguration) *ec2nodeclass.EC2NodeClass {
	arches := func(arch string) []corev1.NodeSelectorRequirement {
		return []corev1.NodeSelectorRequirement{{Key: corev1.LabelArchStable, Operator: corev1.NodeSelectorOpIn, Values: []string{arch}}}
	}
	return &ec2nodeclass.EC2NodeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec:       ec2nodeclass.EC2NodeClassSpec{AMIFamily: aws.String(family), Kubelet: kubelet},
		Status: ec2nodeclass.EC2NodeClassStatus{
			Subnets: []ec2nodeclass.Subnet{{ID: "subnet-0", Zone: zone, ZoneID: "use1-az1"}},
			AMIs: []ec2nodeclass.AMI{
				{ID: "ami-amd64", Requirements: arches("amd64")},
				{ID: "ami-arm64", Requirements: arches("arm64")},
			},
		},
	}
}

func testContext() context.Context {
	return options.ToContext(context.Background(), &options.Options{ClusterName: "test", VMMemoryOverheadPercent: 0.075})
}

// infos are read once: some tests ask for all of them again and again.
var infos sync.Map

func info(t *testing.T, name string) ec2types.InstanceTypeInfo {
	t.Helper()
	if known, ok := infos.Load(name); ok {
		return known.(ec2types.InstanceTypeInfo)
	}
	i, ok := instancetypes.Info(name)
	require.True(t, ok, name)
	infos.Store(name, i)
	return i
}

// emptyLedger has never seen a pod subnet.
func emptyLedger() *podnetwork.Ledger { return podnetwork.NewLedger(clock.RealClock{}) }

func resolve(t *testing.T, n *v1alpha1.PodNetwork, class *ec2nodeclass.EC2NodeClass, names ...string) []*cloudprovider.InstanceType {
	t.Helper()
	resolver := launch.InstanceTypes{Upstream: instancetype.NewDefaultResolver("us-east-1"), Network: always(n)}
	return lo.Map(names, func(name string, _ int) *cloudprovider.InstanceType {
		it := resolver.Resolve(testContext(), info(t, name), []string{zone}, class)
		require.NotNil(t, it, name)
		return it
	})
}

func memoryMiB(resources corev1.ResourceList) int64 { return resources.Memory().Value() >> 20 }

func label(it *cloudprovider.InstanceType, key string) string { return it.Requirements.Get(key).Any() }

var maxPods = map[string]int64{"m5.large": 110, "c5.xlarge": 110, "t3.small": 98, "c7g.medium": 50}

func TestInstanceTypesHoldAsManyPodsAsThePodSubnetGivesAddresses(t *testing.T) {
	for _, family := range []string{ec2nodeclass.AMIFamilyAL2, ec2nodeclass.AMIFamilyAL2023, ec2nodeclass.AMIFamilyBottlerocket} {
		for name, want := range maxPods {
			it := resolve(t, network(), nodeClass(family, nil), name)[0]
			require.Equal(t, want, it.Capacity.Pods().Value(), "%s %s", family, name)
			require.Equal(t, 11*want+255, memoryMiB(it.Overhead.KubeReserved), "%s %s", family, name)
			require.Equal(t, strconv.FormatInt(want, 10), label(it, v1alpha1.LabelMaxPods))
			require.Equal(t, "default", label(it, v1alpha1.LabelPodNetwork))
		}
	}
	it := resolve(t, network(), nodeClass(ec2nodeclass.AMIFamilyAL2023, nil), "c5.xlarge")[0]
	require.Equal(t, "4", label(it, v1alpha1.LabelENIs))
	require.Equal(t, "15", label(it, v1alpha1.LabelIPsPerENI))
}

func TestInstanceTypesHonourThePodNetworksSettings(t *testing.T) {
	single := network(func(n *v1alpha1.PodNetwork) { n.Spec.Addressing.PrefixDelegation = v1alpha1.Disabled })
	maximum := network(func(n *v1alpha1.PodNetwork) { n.Spec.MaxPods.Policy = v1alpha1.MaxPodsMaximum })
	limited := network(func(n *v1alpha1.PodNetwork) { n.Spec.MaxPods.Limit = aws.Int32(64) })
	class := nodeClass(ec2nodeclass.AMIFamilyAL2023, nil)
	require.EqualValues(t, 20, resolve(t, single, class, "m5.large")[0].Capacity.Pods().Value())
	require.EqualValues(t, 290, resolve(t, maximum, class, "m5.large")[0].Capacity.Pods().Value())
	require.EqualValues(t, 64, resolve(t, limited, class, "m5.large")[0].Capacity.Pods().Value())
}

func TestInstanceTypesNeverExceedAddressesForAUsersMaxPods(t *testing.T) {
	class := nodeClass(ec2nodeclass.AMIFamilyAL2023, &ec2nodeclass.KubeletConfiguration{MaxPods: aws.Int32(234), KubeReserved: map[string]string{"memory": "2Gi"}})
	it := resolve(t, network(), class, "t3.small")[0]
	require.EqualValues(t, 98, it.Capacity.Pods().Value())
	require.EqualValues(t, 2048, memoryMiB(it.Overhead.KubeReserved), "the user's kubeReserved is kept")

	class.Spec.Kubelet = &ec2nodeclass.KubeletConfiguration{MaxPods: aws.Int32(30)}
	require.EqualValues(t, 30, resolve(t, network(), class, "t3.small")[0].Capacity.Pods().Value())
	class.Spec.Kubelet = &ec2nodeclass.KubeletConfiguration{PodsPerCore: aws.Int32(10)}
	require.EqualValues(t, 20, resolve(t, network(), class, "t3.small")[0].Capacity.Pods().Value())
}

func TestInstanceTypesWithoutAPodNetworkAreUpstreams(t *testing.T) {
	class := nodeClass(ec2nodeclass.AMIFamilyAL2023, nil)
	upstream := instancetype.NewDefaultResolver("us-east-1")
	ours := launch.InstanceTypes{Upstream: upstream, Network: always(nil)}
	want := upstream.Resolve(testContext(), info(t, "m5.large"), []string{zone}, class)
	got := ours.Resolve(testContext(), info(t, "m5.large"), []string{zone}, class)
	require.Equal(t, want.Capacity, got.Capacity)
	require.Equal(t, want.Overhead, got.Overhead)
	require.Equal(t, upstream.CacheKey(class), ours.CacheKey(class))
	for _, key := range v1alpha1.Labels() {
		require.Equal(t, corev1.NodeSelectorOpDoesNotExist, got.Requirements.Get(key).Operator(), key)
	}
}

func TestCacheKeyChangesWithThePodNetworksLaunchSettingsOnly(t *testing.T) {
	class := nodeClass(ec2nodeclass.AMIFamilyAL2023, nil)
	key := func(n *v1alpha1.PodNetwork) string {
		return launch.InstanceTypes{Upstream: instancetype.NewDefaultResolver("us-east-1"), Network: always(n)}.CacheKey(class)
	}
	base := key(network())
	require.NotEqual(t, base, key(nil))
	require.NotEqual(t, base, key(network(func(n *v1alpha1.PodNetwork) { n.Spec.Addressing.PrefixDelegation = v1alpha1.Disabled })))
	require.NotEqual(t, base, key(network(func(n *v1alpha1.PodNetwork) { n.Spec.MaxPods.Limit = aws.Int32(5) })))
	require.Equal(t, base, key(network(func(n *v1alpha1.PodNetwork) { n.Spec.SNAT.Policy = v1alpha1.SNATNone })))
}

func TestUserDataSaysWhatTheSchedulerCounted(t *testing.T) {
	names := lo.Keys(maxPods)
	for family, decode := range map[string]func(*testing.T, string) kubeletValues{
		ec2nodeclass.AMIFamilyAL2: decodeAL2, ec2nodeclass.AMIFamilyAL2023: decodeAL2023, ec2nodeclass.AMIFamilyBottlerocket: decodeBottlerocket,
	} {
		t.Run(family, func(t *testing.T) {
			// A user's own max-pods is above every type's: the clamped value must reach the node.
			class := nodeClass(family, &ec2nodeclass.KubeletConfiguration{MaxPods: aws.Int32(1000)})
			templates := launchTemplates(t, class, resolve(t, network(), class, names...))
			seen := map[string]bool{}
			for _, template := range templates {
				script, err := template.UserData.Script(testContext())
				require.NoError(t, err)
				raw, err := base64.StdEncoding.DecodeString(script)
				require.NoError(t, err)
				values := decode(t, string(raw))
				for _, it := range template.InstanceTypes {
					seen[it.Name] = true
					require.Equal(t, maxPods[it.Name], values.maxPods, it.Name)
					require.Equal(t, kubeReserved(it), values.kubeReserved, it.Name)
				}
			}
			require.Len(t, seen, len(names), "every type is in a template")
		})
	}
}

func launchTemplates(t *testing.T, class *ec2nodeclass.EC2NodeClass, its []*cloudprovider.InstanceType) []*amifamily.LaunchTemplate {
	t.Helper()
	opts := &amifamily.Options{ClusterName: "test", ClusterEndpoint: "https://10.0.0.9", ClusterCIDR: aws.String("172.20.0.0/16"), CABundle: aws.String("Y2E=")}
	templates, err := launch.Templates{Upstream: amifamily.NewDefaultResolver("us-east-1")}.Resolve(
		class, &karpv1.NodeClaim{}, its, karpv1.CapacityTypeOnDemand, "default", opts, "", 0)
	require.NoError(t, err)
	return templates
}

func kubeReserved(it *cloudprovider.InstanceType) map[string]string {
	return lo.MapEntries(it.Overhead.KubeReserved, func(name corev1.ResourceName, q resource.Quantity) (string, string) { return string(name), q.String() })
}

type kubeletValues struct {
	maxPods      int64
	kubeReserved map[string]string
}

func decodeAL2(t *testing.T, script string) kubeletValues {
	require.Contains(t, script, "--use-max-pods false")
	_, rest, found := strings.Cut(script, "--kubelet-extra-args '")
	require.True(t, found, script)
	args, _, _ := strings.Cut(rest, "'")
	values := kubeletValues{kubeReserved: map[string]string{}}
	for _, arg := range strings.Fields(args) {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "--max-pods":
			_, err := fmt.Sscan(value, &values.maxPods)
			require.NoError(t, err)
		case "--kube-reserved":
			for _, pair := range strings.Split(strings.Trim(value, `"`), ",") {
				k, v, _ := strings.Cut(pair, "=")
				values.kubeReserved[k] = v
			}
		}
	}
	return values
}

func decodeAL2023(t *testing.T, script string) kubeletValues {
	start := strings.Index(script, "apiVersion: node.eks.aws")
	require.GreaterOrEqual(t, start, 0, script)
	document, _, _ := strings.Cut(script[start:], "\n--")
	var config struct {
		Spec struct {
			Kubelet struct {
				Config struct {
					MaxPods      int64             `json:"maxPods"`
					KubeReserved map[string]string `json:"kubeReserved"`
				} `json:"config"`
			} `json:"kubelet"`
		} `json:"spec"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(document), &config))
	return kubeletValues{config.Spec.Kubelet.Config.MaxPods, config.Spec.Kubelet.Config.KubeReserved}
}

func decodeBottlerocket(t *testing.T, script string) kubeletValues {
	var config struct {
		Settings struct {
			Kubernetes struct {
				MaxPods      int64             `toml:"max-pods"`
				KubeReserved map[string]string `toml:"kube-reserved"`
			} `toml:"kubernetes"`
		} `toml:"settings"`
	}
	require.NoError(t, toml.Unmarshal([]byte(script), &config))
	return kubeletValues{config.Settings.Kubernetes.MaxPods, config.Settings.Kubernetes.KubeReserved}
}

func offered(it *cloudprovider.InstanceType, offerings map[string]float64) *cloudprovider.InstanceType {
	for z, price := range offerings {
		it.Offerings = append(it.Offerings, &cloudprovider.Offering{
			Available: true, Price: price,
			Requirements: scheduling.NewLabelRequirements(map[string]string{corev1.LabelTopologyZone: z, karpv1.CapacityTypeLabelKey: karpv1.CapacityTypeOnDemand}),
		})
	}
	return it
}

func TestOfferingsAreWithheldWhereThePodNetworkHasNoENIConfig(t *testing.T) {
	n := network()
	it := resolve(t, n, nodeClass(ec2nodeclass.AMIFamilyAL2023, nil), "m5.large")[0]
	before := offered(it, map[string]float64{zone: 1, "us-east-1b": 1}).Offerings
	after := launch.NewOfferings(always(n), emptyLedger()).ResolveOfferings(testContext(), it, before, ec2types.InstanceTypeInfo{}, nodeClass("AL2023", nil), nil, nil, nil, nil)
	for _, o := range after {
		require.Equal(t, o.Zone() == zone, o.Available, o.Zone())
	}
	named, _ := lo.Find(after, func(o *cloudprovider.Offering) bool { return o.Zone() == zone })
	require.Equal(t, zone, named.Requirements.Get(v1alpha1.LabelENIConfig).Any())
	for _, o := range before {
		require.True(t, o.Available, "upstream's cached offerings stay as they were")
		require.False(t, o.Requirements.Has(v1alpha1.LabelENIConfig))
	}
}

func TestNothingIsOfferedWhileNobodyWouldServeTheNodes(t *testing.T) {
	n := network()
	it := resolve(t, n, nodeClass(ec2nodeclass.AMIFamilyAL2023, nil), "m5.large")[0]
	resolver := launch.NewOfferings(always(n), emptyLedger())
	available := func() bool {
		after := resolver.ResolveOfferings(testContext(), it, offered(it, map[string]float64{zone: 1}).Offerings, ec2types.InstanceTypeInfo{}, nodeClass("AL2023", nil), nil, nil, nil, nil)
		return after[0].Available
	}
	require.True(t, available(), "the controller has not looked yet")
	n.StatusConditions().SetFalse(v1alpha1.ConditionAgentReady, "VPCCNIMissing", "there is no DaemonSet aws-node")
	require.False(t, available())
	n.StatusConditions().SetTrue(v1alpha1.ConditionAgentReady)
	n.StatusConditions().SetFalse(v1alpha1.ConditionSubnetsReady, "SubnetNotFound", "the subnet of another zone's ENIConfig")
	require.True(t, available(), "one zone at fault leaves the others")
}

func TestATypeWithoutAPodENIIsNotOffered(t *testing.T) {
	n := network()
	it := resolve(t, n, nodeClass(ec2nodeclass.AMIFamilyAL2023, nil), "hpc6id.32xlarge")[0]
	require.Zero(t, it.Capacity.Pods().Value())
	after := launch.NewOfferings(always(n), emptyLedger()).ResolveOfferings(testContext(), it, offered(it, map[string]float64{zone: 1}).Offerings, ec2types.InstanceTypeInfo{}, nodeClass("AL2023", nil), nil, nil, nil, nil)
	require.False(t, after[0].Available)
}

func TestGroupsAreHomogeneousAndCheapestFirst(t *testing.T) {
	its := resolve(t, network(), nodeClass(ec2nodeclass.AMIFamilyAL2023, nil), "m5.large", "c5.large", "c5.xlarge", "m5.xlarge", "t3.small", "c7g.medium")
	prices := map[string]float64{"m5.large": 0.096, "c5.large": 0.085, "c5.xlarge": 0.17, "m5.xlarge": 0.192, "t3.small": 0.0208, "c7g.medium": 0.0363}
	for _, it := range its {
		offered(it, map[string]float64{zone: prices[it.Name]})
	}
	claim := &karpv1.NodeClaim{}
	groups := launch.Groups(its, claim)
	require.Equal(t, [][]string{{"t3.small"}, {"c7g.medium"}, {"c5.large", "m5.large"}, {"c5.xlarge", "m5.xlarge"}},
		lo.Map(groups, func(g launch.Group, _ int) []string { return g.Names() }))
	require.Equal(t, map[string]string{
		v1alpha1.LabelPodNetwork: "default", v1alpha1.LabelMaxPods: "110", v1alpha1.LabelENIs: "3", v1alpha1.LabelIPsPerENI: "10",
		v1alpha1.LabelAllocation: "Dynamic", v1alpha1.LabelAgent: "Dovetail", v1alpha1.LabelPrefixDelegation: "Enabled",
	}, groups[2].Labels())

	claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
		{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpExists, MinValues: lo.ToPtr(2)},
		{Key: v1alpha1.LabelMaxPods, Operator: corev1.NodeSelectorOpIn, Values: []string{"110"}},
	}
	groups = launch.Groups(its, claim)
	require.Equal(t, [][]string{{"c5.large", "m5.large"}, {"c5.xlarge", "m5.xlarge"}},
		lo.Map(groups, func(g launch.Group, _ int) []string { return g.Names() }))

	claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
		{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"us-east-1f"}},
	}
	require.Empty(t, launch.Groups(its, claim))
}

func TestOfferingsNameEachENIConfigAndWithholdFullPodSubnets(t *testing.T) {
	n, ledger := threeZones(2)
	class := nodeClass(ec2nodeclass.AMIFamilyAL2023, nil)
	it := resolve(t, n, class, "m5.large")[0]
	offered(it, map[string]float64{zones[0]: 1, zones[1]: 1, "us-east-1f": 1})
	resolver := launch.NewOfferings(always(n), ledger)
	list := func(ctx context.Context, listing *offering.ResolveContext) map[string]bool {
		available := map[string]bool{}
		for _, o := range resolver.ResolveOfferings(ctx, it, it.Offerings, ec2types.InstanceTypeInfo{}, class, nil, nil, nil, listing) {
			name := "none"
			if o.Requirements.Has(v1alpha1.LabelENIConfig) {
				name = o.Requirements.Get(v1alpha1.LabelENIConfig).Any()
			}
			if o.Requirements.Get(v1alpha1.LabelMaxPods).Has("20") && o.Requirements.Has(v1alpha1.LabelMaxPods) {
				name += " single addresses"
			}
			available[o.Zone()+" "+name] = o.Available
		}
		return available
	}
	all := map[string]bool{
		"us-east-1a us-east-1a-0": true, "us-east-1a us-east-1a-1": true, "us-east-1b us-east-1b-0": true, "us-east-1b us-east-1b-1": true,
		// for nodes whose ENIConfig is gone
		"us-east-1a none": false, "us-east-1b none": false, "us-east-1f none": false,
	}
	require.Equal(t, all, list(testContext(), &offering.ResolveContext{}))

	// One subnet has blocks for six prefixes, of seven that an m5.large can need.
	ledger.Observe(podnetwork.NewSnapshot("subnet-00", prefix("100.64.0.0/25"), nil, podnetwork.Reservations{}, time.Now()))
	ledger.MarkRefused("subnet-11", "InsufficientCidrBlocks")
	full := maps.Clone(all)
	full["us-east-1a us-east-1a-0"], full["us-east-1b us-east-1b-1"] = false, false
	full["us-east-1a us-east-1a-0 single addresses"], full["us-east-1b us-east-1b-1 single addresses"] = true, true
	listing := &offering.ResolveContext{}
	require.Equal(t, full, list(testContext(), listing))
	ledger.Observe(podnetwork.NewSnapshot("subnet-00", prefix("100.64.0.0/19"), nil, podnetwork.Reservations{}, time.Now()))
	require.Equal(t, full, list(testContext(), listing), "one listing sees one state")
	full["us-east-1a us-east-1a-0"] = true
	delete(full, "us-east-1a us-east-1a-0 single addresses")
	require.Equal(t, full, list(testContext(), &offering.ResolveContext{}), "the next sees the present one")

	held := podnetwork.Place{Zone: zones[1], ENIConfig: "us-east-1b-1", Subnet: "subnet-11"}
	launching := maps.Clone(all)
	for place := range launching {
		launching[place] = place == "us-east-1b us-east-1b-1"
	}
	require.Equal(t, launching, list(launch.Holding(testContext(), []podnetwork.Place{held}, []string{"m5.large"}), &offering.ResolveContext{}))
	require.Empty(t, list(launch.Holding(testContext(), []podnetwork.Place{held}, []string{"c5.large"}), &offering.ResolveContext{}), "not in the group")
}

func TestANodesNeedFollowsItsInstanceTypeAndNetwork(t *testing.T) {
	class := nodeClass(ec2nodeclass.AMIFamilyAL2023, nil)
	of := func(n *v1alpha1.PodNetwork, name string) podcapacity.Need {
		return launch.NeedOf(testContext(), n, resolve(t, n, class, name)[0])
	}
	single := network(func(n *v1alpha1.PodNetwork) { n.Spec.Addressing.PrefixDelegation = v1alpha1.Disabled })
	require.Equal(t, podcapacity.Need{Prefixes: 7, ENIs: 1}, of(network(), "m5.large"))
	require.Equal(t, podcapacity.Need{Prefixes: 7, ENIs: 1}, of(network(), "a1.metal"), "bare metal takes prefixes")
	require.Equal(t, podcapacity.Need{Addresses: 18, ENIs: 2}, of(single, "m5.large"))
	require.Equal(t, podcapacity.Need{Addresses: 9, ENIs: 1}, of(network(), "m4.large"), "Xen takes none")
	require.Zero(t, of(network(), "hpc6id.32xlarge"))
}
