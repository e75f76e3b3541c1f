// SPDX-License-Identifier: Apache-2.0

package podcapacity_test

import (
	"math/rand/v2"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

var (
	m5large   = podcapacity.Geometry{VCPUs: 2, ENIs: 3, IPsPerENI: 10, PrefixCapable: true}
	c5xlarge  = podcapacity.Geometry{VCPUs: 4, ENIs: 4, IPsPerENI: 15, PrefixCapable: true}
	t3small   = podcapacity.Geometry{VCPUs: 2, ENIs: 3, IPsPerENI: 4, PrefixCapable: true}
	c7gmedium = podcapacity.Geometry{VCPUs: 1, ENIs: 2, IPsPerENI: 4, PrefixCapable: true}
	m4large   = podcapacity.Geometry{VCPUs: 2, ENIs: 2, IPsPerENI: 10}
	m5metal   = podcapacity.Geometry{VCPUs: 96, ENIs: 15, IPsPerENI: 50, PrefixCapable: true}
)

func TestComputeGivesTheNumbersOfAmazonsCalculator(t *testing.T) {
	tests := map[string]struct {
		geometry                  podcapacity.Geometry
		single, prefix, effective int
		prefixes                  int
	}{
		"m5.large":   {m5large, 20, 290, 110, 7},
		"c5.xlarge":  {c5xlarge, 44, 674, 110, 7},
		"t3.small":   {t3small, 8, 98, 98, 6},
		"c7g.medium": {c7gmedium, 5, 50, 50, 3},
		"m5.metal":   {m5metal, 688, 10978, 250, 16},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			single := podcapacity.Compute(test.geometry, podcapacity.Policy{CustomNetworking: true, Uncapped: true})
			require.Equal(t, test.single, single.MaxPods)
			require.Zero(t, single.Prefixes)

			uncapped := podcapacity.Compute(test.geometry, podcapacity.Policy{CustomNetworking: true, PrefixDelegation: true, Uncapped: true})
			require.Equal(t, test.prefix, uncapped.MaxPods)

			effective := podcapacity.Compute(test.geometry, podcapacity.Policy{CustomNetworking: true, PrefixDelegation: true})
			require.Equal(t, test.effective, effective.MaxPods)
			require.Equal(t, test.prefix, effective.MaxAllowed)
			require.Equal(t, test.prefixes, effective.Prefixes)
			require.Equal(t, 11*test.effective+255, effective.KubeReservedMemoryMiB)
			require.Empty(t, effective.Warnings)
		})
	}
}

func TestComputeWithoutCustomNetworkingUsesThePrimaryENI(t *testing.T) {
	require.Equal(t, 29, podcapacity.Compute(m5large, podcapacity.Policy{}).MaxPods)
	require.Equal(t, 8, podcapacity.Compute(c7gmedium, podcapacity.Policy{}).MaxPods)
}

func TestComputeFallsBackToSingleAddressesWithoutNitro(t *testing.T) {
	result := podcapacity.Compute(m4large, podcapacity.Policy{CustomNetworking: true, PrefixDelegation: true})
	require.Equal(t, 11, result.MaxPods)
	require.Zero(t, result.Prefixes)
	require.Len(t, result.Warnings, 1)
}

func TestComputeRefusesATypeWithoutAPodENI(t *testing.T) {
	hpc6id := podcapacity.Geometry{VCPUs: 64, ENIs: 1, IPsPerENI: 50, PrefixCapable: true}
	result := podcapacity.Compute(hpc6id, podcapacity.Policy{CustomNetworking: true, PrefixDelegation: true})
	require.Zero(t, result.MaxPods)
	require.Len(t, result.Warnings, 1)

	result = podcapacity.Compute(c7gmedium, podcapacity.Policy{CustomNetworking: true, ReservedENIs: 1})
	require.Zero(t, result.MaxPods)
}

func TestComputeClampsAUsersMaxPodsAndSaysSo(t *testing.T) {
	policy := podcapacity.Policy{CustomNetworking: true, PrefixDelegation: true, KubeletMaxPods: aws.Int(200)}
	result := podcapacity.Compute(m5large, policy)
	require.Equal(t, 110, result.MaxPods)
	require.Len(t, result.Warnings, 1)

	policy.KubeletMaxPods = aws.Int(60)
	result = podcapacity.Compute(m5large, policy)
	require.Equal(t, 60, result.MaxPods)
	require.Empty(t, result.Warnings)

	policy.PodsPerCore = aws.Int(10)
	require.Equal(t, 20, podcapacity.Compute(m5large, policy).MaxPods)
	policy.Limit = aws.Int(12)
	require.Equal(t, 12, podcapacity.Compute(m5large, policy).MaxPods)
}

func TestComputeNeverGivesMorePodsThanAddressesNorFewerPrefixesThanPodsNeed(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		g := podcapacity.Geometry{VCPUs: 1 + random.IntN(200), ENIs: random.IntN(16), IPsPerENI: random.IntN(51), PrefixCapable: random.IntN(2) == 0}
		p := podcapacity.Policy{
			CustomNetworking: true, PrefixDelegation: random.IntN(2) == 0, ReservedENIs: random.IntN(3), Uncapped: random.IntN(2) == 0,
		}
		if random.IntN(2) == 0 {
			p.KubeletMaxPods = aws.Int(random.IntN(300))
		}
		r := podcapacity.Compute(g, p)
		require.LessOrEqual(t, r.MaxPods, r.MaxAllowed)
		if r.Prefixes > 0 {
			require.GreaterOrEqual(t, r.Prefixes*podcapacity.AddressesPerPrefix+2, r.MaxPods)
			require.LessOrEqual(t, r.Prefixes, r.PodENIs*(g.IPsPerENI-1))
		}
		if r.PodENIs > 0 {
			singles := p
			singles.PrefixDelegation = false
			require.Equal(t, podcapacity.Compute(g, singles).MaxPods, podcapacity.SingleMaxPods(r.MaxPods, r.PodENIs, g.IPsPerENI))
		}
		lower := p
		lower.ReservedENIs++
		require.LessOrEqual(t, podcapacity.Compute(g, lower).MaxPods, r.MaxPods)
	}
}

func TestKubeReservedCPUFollowsTheAMIsSteps(t *testing.T) {
	for vcpus, millis := range map[int]int{1: 60, 2: 70, 4: 80, 8: 90, 48: 190, 96: 310} {
		require.Equal(t, millis, podcapacity.KubeReservedCPUMillis(vcpus), "%d vCPU", vcpus)
	}
}

func TestGeometryCountsOnlyTheDefaultNetworkCard(t *testing.T) {
	p5 := ec2types.InstanceTypeInfo{
		Hypervisor: ec2types.InstanceTypeHypervisorNitro,
		VCpuInfo:   &ec2types.VCpuInfo{DefaultVCpus: aws.Int32(192)},
		NetworkInfo: &ec2types.NetworkInfo{
			MaximumNetworkInterfaces: aws.Int32(64), Ipv4AddressesPerInterface: aws.Int32(50), DefaultNetworkCardIndex: aws.Int32(0),
			NetworkCards: []ec2types.NetworkCardInfo{
				{NetworkCardIndex: aws.Int32(0), MaximumNetworkInterfaces: aws.Int32(2)},
				{NetworkCardIndex: aws.Int32(1), MaximumNetworkInterfaces: aws.Int32(2)},
			},
		},
	}
	g := podcapacity.GeometryOf(p5)
	require.Equal(t, podcapacity.Geometry{VCPUs: 192, ENIs: 2, IPsPerENI: 50, PrefixCapable: true}, g)
	require.Equal(t, 1, podcapacity.Compute(g, podcapacity.Policy{CustomNetworking: true, PrefixDelegation: true}).PodENIs)
}
