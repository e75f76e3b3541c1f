// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"testing"

	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

func networkLike(prefixes v1alpha1.Toggle, policy v1alpha1.MaxPodsPolicy, limit *int32) *v1alpha1.PodNetwork {
	return &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha1.PodNetworkSpec{
		Addressing: v1alpha1.Addressing{PrefixDelegation: prefixes}, MaxPods: v1alpha1.MaxPods{Policy: policy, Limit: limit},
	}}
}

func enisOf(t *testing.T, name string, network *v1alpha1.PodNetwork) (podENIs, int) {
	t.Helper()
	info, ok := instancetypes.Info(name)
	require.True(t, ok, name)
	resolver := InstanceTypes{
		Upstream: instancetype.NewDefaultResolver("us-east-1"),
		Network:  func(context.Context, client.Object) (*v1alpha1.PodNetwork, error) { return network, nil },
	}
	ctx := options.ToContext(t.Context(), &options.Options{ClusterName: "test", VMMemoryOverheadPercent: 0.075})
	it := resolver.Resolve(ctx, info, []string{"us-east-1a"}, &ec2nodeclass.EC2NodeClass{Spec: ec2nodeclass.EC2NodeClassSpec{AMIFamily: aws.String("AL2023")}})
	require.NotNil(t, it, name)
	return podENIsOf(it, network.Spec.Addressing.PrefixDelegation != v1alpha1.Disabled), int(it.Capacity.Pods().Value())
}

func TestAStaticLaunchBringsAsFewPodENIsAsHoldItsMaxPods(t *testing.T) {
	for name, row := range map[string]struct {
		instanceType string
		prefixes     v1alpha1.Toggle
		policy       v1alpha1.MaxPodsPolicy
		limit        *int32
		want         podENIs
	}{
		"110 pods":                         {"m5.large", v1alpha1.Enabled, "", nil, podENIs{true, []int{7}}},
		"all that the type can hold":       {"m5.large", v1alpha1.Enabled, v1alpha1.MaxPodsMaximum, nil, podENIs{true, []int{9, 9}}},
		"a second ENI for the rest":        {"t3.small", v1alpha1.Enabled, "", nil, podENIs{true, []int{3, 3}}},
		"single addresses":                 {"m5.large", v1alpha1.Disabled, "", nil, podENIs{false, []int{9, 9}}},
		"Xen takes no prefixes":            {"m4.large", v1alpha1.Enabled, "", nil, podENIs{false, []int{9}}},
		"bare metal takes prefixes":        {"m5.metal", v1alpha1.Enabled, "", nil, podENIs{true, []int{16}}},
		"one more than a prefix's":         {"m5.large", v1alpha1.Enabled, "", aws.Int32(19), podENIs{true, []int{2}}},
		"exactly a prefix's":               {"m5.large", v1alpha1.Enabled, "", aws.Int32(18), podENIs{true, []int{1}}},
		"pods on the host network only":    {"m5.large", v1alpha1.Enabled, "", aws.Int32(1), podENIs{true, []int{1}}},
		"one ENI on the default card only": {"p5.48xlarge", v1alpha1.Enabled, "", nil, podENIs{true, []int{16}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := enisOf(t, row.instanceType, networkLike(row.prefixes, row.policy, row.limit))
			require.Equal(t, row.want, got)
		})
	}
}

func TestNoTypeIsLaunchedWithMoreThanEC2Takes(t *testing.T) {
	for _, network := range []*v1alpha1.PodNetwork{
		networkLike(v1alpha1.Enabled, v1alpha1.MaxPodsRecommended, nil), networkLike(v1alpha1.Enabled, v1alpha1.MaxPodsMaximum, nil),
		networkLike(v1alpha1.Disabled, v1alpha1.MaxPodsMaximum, nil),
	} {
		for _, name := range instancetypes.Names() {
			got, maxPods := enisOf(t, name, network)
			if maxPods == 0 {
				continue // not offered
			}
			info, _ := instancetypes.Info(name)
			g := podcapacity.GeometryOf(info)
			require.LessOrEqual(t, len(got.counts), g.ENIs-1, name)
			require.LessOrEqual(t, lo.Max(got.counts), g.IPsPerENI-1, name)
			require.False(t, got.prefixes && !g.PrefixCapable, name)
			addresses := lo.Sum(got.counts) * lo.Ternary(got.prefixes, podcapacity.AddressesPerPrefix, 1)
			require.GreaterOrEqual(t, addresses, maxPods-2, "%s: the agent serves max-pods from them", name)
			require.Less(t, addresses-(maxPods-2), podcapacity.AddressesPerPrefix+1, "%s: and no prefix more", name)
		}
	}
}

func TestAFleetsErrorNamesTheSubnetThatIsFull(t *testing.T) {
	template := staticTemplate{nodeSubnet: "subnet-node", podSubnet: "subnet-pod"}
	for name, row := range map[string]struct {
		code, message string
		want          whichSubnet
	}{
		"fragmented":               {"InsufficientCidrBlocks", "The specified subnet does not have enough free cidr blocks to satisfy the request.", podSubnet},
		"too full for prefixes":    {"InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes", podSubnet},
		"another value":            {"InvalidParameterValue", "Invalid IAM Instance Profile name", noSubnet},
		"no address, no name":      {"InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.", eitherSubnet},
		"no address in the node's": {"InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet 'subnet-node' to satisfy the requested number of instances.", nodeSubnet},
		"no address in the pods'":  {"InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet 'subnet-pod' to satisfy the requested number of instances.", podSubnet},
		"no machine":               {"InsufficientInstanceCapacity", "We currently do not have sufficient m5.large capacity", noSubnet},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, row.want, fullSubnet(row.code, row.message, template)) })
	}
}

func TestANodeThatCouldNotBringItsPodENIsNeedsWhatADynamicOneDoes(t *testing.T) {
	network := networkLike(v1alpha1.Enabled, "", nil)
	network.Spec.Addressing.Allocation = v1alpha1.AllocationStatic
	ctx := options.ToContext(t.Context(), &options.Options{})
	labels := map[string]string{
		v1alpha1.LabelMaxPods: "98", v1alpha1.LabelENIs: "3", v1alpha1.LabelIPsPerENI: "4", ec2nodeclass.LabelInstanceHypervisor: "nitro",
		v1alpha1.LabelAllocation: "Static",
	}
	require.Equal(t, podcapacity.Need{Prefixes: 6, ENIs: 2}, NeedOfNode(ctx, network, labels))
	labels[v1alpha1.LabelAllocation], labels[v1alpha1.LabelMaxPods] = "Dynamic", "50"
	require.Equal(t, podcapacity.Need{Prefixes: 4, ENIs: 2}, NeedOfNode(ctx, network, labels), "warm addresses go up to max-pods, not to two less")
}
