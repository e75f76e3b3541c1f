// SPDX-License-Identifier: Apache-2.0

package cloudprovider_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	core "sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cloudprovider"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

func TestMain(m *testing.M) {
	apis.Register(scheme.Scheme)
	m.Run()
}

// market stands where upstream's CloudProvider is: EC2 with capacity for some instance types only. It is no mock of ours: it
// keeps the launches that reach it.
type market struct {
	core.CloudProvider
	soldOut  []string
	launches []*karpv1.NodeClaim
	outcome  map[string]string // labels that the launch templates decided
}

func (m *market) Create(ctx context.Context, claim *karpv1.NodeClaim) (*karpv1.NodeClaim, error) {
	m.launches = append(m.launches, claim)
	for _, name := range typesOf(claim) {
		if !slices.Contains(m.soldOut, name) {
			launch.Decided(ctx, m.outcome)
			created := claim.DeepCopy()
			created.Labels = lo.Assign(created.Labels, map[string]string{corev1.LabelTopologyZone: "us-east-1a"})
			return created, nil
		}
	}
	return nil, core.NewInsufficientCapacityError(errors.New("sold out"))
}

func (m *market) IsDrifted(context.Context, *karpv1.NodeClaim) (core.DriftReason, error) {
	return "", nil
}

func typesOf(claim *karpv1.NodeClaim) []string {
	for _, r := range claim.Spec.Requirements {
		if r.Key == corev1.LabelInstanceTypeStable {
			return r.Values
		}
	}
	return nil
}

// catalogue lists instance types as the launch resolver makes them, one on-demand offering each.
type catalogue struct {
	instancetype.Provider
	network *v1alpha1.PodNetwork
}

func (c catalogue) List(ctx context.Context, nodeClass instancetype.NodeClass) ([]*core.InstanceType, error) {
	resolver := launch.InstanceTypes{
		Upstream: instancetype.NewDefaultResolver("us-east-1"),
		Network:  func(context.Context, client.Object) (*v1alpha1.PodNetwork, error) { return c.network, nil },
	}
	ctx = withOptions(ctx)
	var its []*core.InstanceType
	for _, name := range []string{"t3.small", "c5.large", "m5.large", "c5.xlarge", "m5.xlarge"} {
		info, _ := instancetypes.Info(name)
		price, _ := instancetypes.Price(name)
		it := resolver.Resolve(ctx, info, []string{"us-east-1a"}, nodeClass)
		it.Offerings = core.Offerings{{Available: true, Price: price, Requirements: scheduling.NewLabelRequirements(map[string]string{
			corev1.LabelTopologyZone: "us-east-1a", karpv1.CapacityTypeLabelKey: karpv1.CapacityTypeOnDemand,
		})}}
		its = append(its, it)
	}
	return its, nil
}

func withOptions(ctx context.Context) context.Context {
	return options.ToContext(ctx, &options.Options{ClusterName: "test", VMMemoryOverheadPercent: 0.075})
}

// podSubnet of us-east-1a is empty.
const podSubnet = "subnet-0d0ec0de0000000a1"

func provider(t *testing.T, m *market, network *v1alpha1.PodNetwork) *cloudprovider.CloudProvider {
	t.Helper()
	c, err := client.New(chartstest.StartAPIServer(t), client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	require.NoError(t, c.Create(t.Context(), &ec2nodeclass.EC2NodeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec: ec2nodeclass.EC2NodeClassSpec{
			AMISelectorTerms: []ec2nodeclass.AMISelectorTerm{{Alias: "al2023@latest"}}, Role: "role",
			SubnetSelectorTerms:        []ec2nodeclass.SubnetSelectorTerm{{ID: "subnet-0d0ec0de000000a00"}},
			SecurityGroupSelectorTerms: []ec2nodeclass.SecurityGroupSelectorTerm{{ID: "sg-0d0ec0de000000001"}},
		},
	}))
	network.Status.Zones = []v1alpha1.ZoneStatus{{Zone: "us-east-1a", ENIConfig: "us-east-1a", Subnet: podSubnet}}
	ledger := podnetwork.NewLedger(clock.RealClock{})
	ledger.Observe(podnetwork.NewSnapshot(podSubnet, netip.MustParsePrefix("100.64.0.0/19"), nil, podnetwork.Reservations{}, time.Now()))
	return &cloudprovider.CloudProvider{
		CloudProvider: m, Client: c, InstanceTypes: launch.Lister{Provider: catalogue{network: network}}, PodSubnets: &podsubnet.Reader{Ledger: ledger, Clock: clock.RealClock{}},
		Network: func(context.Context, client.Object) (*v1alpha1.PodNetwork, error) { return network, nil },
	}
}

func claim(requirements ...karpv1.NodeSelectorRequirementWithMinValues) *karpv1.NodeClaim {
	return &karpv1.NodeClaim{Spec: karpv1.NodeClaimSpec{
		NodeClassRef: &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"},
		Requirements: append(requirements, karpv1.NodeSelectorRequirementWithMinValues{
			Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"c5.large", "m5.large", "c5.xlarge", "m5.xlarge"},
		}),
	}}
}

func TestLaunchesOnAPodNetwork(t *testing.T) {
	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "pods"}}
	m := &market{}
	p := provider(t, m, network)
	reset := func(soldOut ...string) { m.launches, m.soldOut = nil, soldOut }

	t.Run("the cheapest homogeneous group is launched, with the network's labels and hash", func(t *testing.T) {
		reset()
		created, err := p.Create(withOptions(t.Context()), claim())
		require.NoError(t, err)
		require.Len(t, m.launches, 1)
		require.Equal(t, []string{"c5.large", "m5.large"}, typesOf(m.launches[0]))
		require.Equal(t, map[string]string{
			v1alpha1.LabelPodNetwork: "pods", v1alpha1.LabelMaxPods: "110", v1alpha1.LabelENIs: "3", v1alpha1.LabelIPsPerENI: "10",
			v1alpha1.LabelAllocation: "Dynamic", v1alpha1.LabelAgent: "Dovetail", v1alpha1.LabelPrefixDelegation: "Enabled",
		}, m.launches[0].Labels, "they reach the user data")
		require.Equal(t, network.Hash(), created.Annotations[v1alpha1.AnnotationPodNetworkHash])
	})
	t.Run("the next group follows when the first is sold out", func(t *testing.T) {
		reset("c5.large", "m5.large")
		_, err := p.Create(withOptions(t.Context()), claim())
		require.NoError(t, err)
		require.Len(t, m.launches, 2)
		require.Equal(t, []string{"c5.xlarge", "m5.xlarge"}, typesOf(m.launches[1]))
	})
	t.Run("missing capacity everywhere is missing capacity to Karpenter", func(t *testing.T) {
		reset("c5.large", "m5.large", "c5.xlarge", "m5.xlarge")
		_, err := p.Create(withOptions(t.Context()), claim())
		require.True(t, core.IsInsufficientCapacityError(err), "%v", err)
	})
	t.Run("Flexible leaves all types to EC2", func(t *testing.T) {
		reset()
		network.Spec.InstanceTypes = v1alpha1.Flexible
		defer func() { network.Spec.InstanceTypes = "" }()
		_, err := p.Create(withOptions(t.Context()), claim())
		require.NoError(t, err)
		require.Len(t, typesOf(m.launches[0]), 4)
		require.Equal(t, "Dynamic", m.launches[0].Labels[v1alpha1.LabelAllocation])
	})
	t.Run("a node is labelled with the allocation that it was launched with, not with the one that was asked for", func(t *testing.T) {
		reset()
		network.Spec.Addressing.Allocation = v1alpha1.AllocationStatic
		defer func() { network.Spec.Addressing.Allocation = "" }()
		created, err := p.Create(withOptions(t.Context()), claim()) // the market brings no pod ENIs
		require.NoError(t, err)
		require.Equal(t, "Dynamic", created.Labels[v1alpha1.LabelAllocation])
		m.outcome = map[string]string{v1alpha1.LabelAllocation: "Static"}
		defer func() { m.outcome = nil }()
		created, err = p.Create(withOptions(t.Context()), claim())
		require.NoError(t, err)
		require.Equal(t, "Static", created.Labels[v1alpha1.LabelAllocation])
	})
	t.Run("a node that aws-node is to serve says so, whatever way it is launched", func(t *testing.T) {
		network.Spec.Agent = v1alpha1.AgentVPCCNI
		defer func() { network.Spec.Agent, network.Spec.InstanceTypes = "", "" }()
		for _, network.Spec.InstanceTypes = range []v1alpha1.InstanceTypes{v1alpha1.Homogeneous, v1alpha1.Flexible} {
			reset()
			created, err := p.Create(withOptions(t.Context()), claim())
			require.NoError(t, err)
			require.Equal(t, "VPCCNI", m.launches[0].Labels[v1alpha1.LabelAgent])
			require.Equal(t, network.Hash(), created.Annotations[v1alpha1.AnnotationPodNetworkHash])
		}
	})
	t.Run("a pod subnet without room is missing capacity, with the reason", func(t *testing.T) {
		reset()
		p.PodSubnets.Ledger.Observe(podnetwork.NewSnapshot(podSubnet, netip.MustParsePrefix("100.64.0.0/25"), nil, podnetwork.Reservations{}, time.Now()))
		_, err := p.Create(withOptions(t.Context()), claim())
		require.True(t, core.IsInsufficientCapacityError(err), "%v", err)
		require.ErrorContains(t, err, "pod subnet subnet-0d0ec0de0000000a1 (zone us-east-1a, ENIConfig us-east-1a): 6 /28 blocks free, 0 of them set aside for nodes, 7 needed")
		require.Empty(t, m.launches, "EC2 is not asked")
		p.PodSubnets.Ledger.Observe(podnetwork.NewSnapshot(podSubnet, netip.MustParsePrefix("100.64.0.0/19"), nil, podnetwork.Reservations{}, time.Now()))
	})
	t.Run("one ENIConfig that is required becomes the node's label", func(t *testing.T) {
		reset()
		network.Spec.ENIConfigs.NodeLabel, network.Status.Zones[0].ENIConfig = v1alpha1.LabelENIConfig, "big"
		defer func() { network.Spec.ENIConfigs.NodeLabel, network.Status.Zones[0].ENIConfig = "", "us-east-1a" }()
		required := karpv1.NodeSelectorRequirementWithMinValues{Key: v1alpha1.LabelENIConfig, Operator: corev1.NodeSelectorOpIn, Values: []string{"big"}}
		_, err := p.Create(withOptions(t.Context()), claim(required))
		require.NoError(t, err)
		require.Equal(t, "big", m.launches[0].Labels[v1alpha1.LabelENIConfig])
	})
}
