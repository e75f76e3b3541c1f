// SPDX-License-Identifier: Apache-2.0

// Package podcapacity computes how many pods an instance type can hold on a pod network, and what follows from that
// number: the prefixes a node needs and the memory the kubelet reserves. It is pure, and the only place that computes
// them: the scheduler's view, the launch's user data and the command line all call it.
package podcapacity

import "fmt"

const (
	// AddressesPerPrefix is the size of the /28 that EC2 delegates to an address slot.
	AddressesPerPrefix = 16
	// HostNetworkPods is what Amazon's formula adds for pods that need no address: the CNI's own and kube-proxy.
	HostNetworkPods = 2
	// Amazon EKS recommends at most 110 pods on instances up to 30 vCPU and 250 on larger ones.
	recommendedSmall, recommendedLarge, recommendedSmallVCPUs = 110, 250, 30
)

// Geometry is what decides an instance type's pod addresses.
type Geometry struct {
	VCPUs int
	// ENIs that the default network card takes, the primary included. Other cards take no pod ENIs.
	ENIs int
	// IPsPerENI counts IPv4 address slots of one ENI, its primary address included.
	IPsPerENI int
	// PrefixCapable is true for Nitro and bare-metal types.
	PrefixCapable bool
}

// Policy is how a pod network and a node class use the geometry.
type Policy struct {
	// CustomNetworking keeps pods off the primary ENI.
	CustomNetworking bool
	// PrefixDelegation puts a /28 in each slot where the type is capable of it.
	PrefixDelegation bool
	// ReservedENIs are left to others (RESERVED_ENIS).
	ReservedENIs int
	// Uncapped leaves out the recommended 110 and 250.
	Uncapped bool
	// Limit lowers the result; nil does not.
	Limit *int
	// KubeletMaxPods is the user's kubelet.maxPods: it only lowers the result.
	KubeletMaxPods *int
	// PodsPerCore bounds pods by vCPU; nil or 0 does not.
	PodsPerCore *int
}

// Warning is a reason why the result is not what the user asked for.
type Warning string

// Result of Compute. Where MaxPods is 0 the type has no pod ENI and cannot serve on this pod network.
type Result struct {
	// MaxAllowed is what the addresses allow, before any cap.
	MaxAllowed int
	// MaxPods is for the kubelet.
	MaxPods int
	// PodENIs can be attached to carry pods.
	PodENIs int
	// Prefixes that MaxPods needs, 0 without prefix delegation.
	Prefixes int
	// KubeReservedMemoryMiB is 11 * MaxPods + 255, as the EKS AMIs compute it.
	KubeReservedMemoryMiB int
	Warnings              []Warning
}

// Compute applies the policy to the geometry:
//
//	(ENIs - 1 with custom networking - reserved) * (IPs - 1) * (16 with prefixes) + 2
//
// as in Amazon's max-pods-calculator, then the caps and limits, the lowest of which counts.
func Compute(g Geometry, p Policy) Result {
	enis := g.ENIs - p.ReservedENIs
	if p.CustomNetworking {
		enis--
	}
	slots := max(g.IPsPerENI-1, 0)
	if enis <= 0 || slots == 0 {
		return Result{Warnings: []Warning{Warning(fmt.Sprintf(
			"no ENI is left for pods: %d on the default network card, %d reserved, %d addresses each", g.ENIs, p.ReservedENIs, g.IPsPerENI))}}
	}

	prefixes := p.PrefixDelegation && g.PrefixCapable
	result := Result{PodENIs: enis, MaxAllowed: enis*slots + HostNetworkPods}
	if prefixes {
		result.MaxAllowed = enis*slots*AddressesPerPrefix + HostNetworkPods
	} else if p.PrefixDelegation {
		result.Warnings = append(result.Warnings, "prefix delegation needs a Nitro or bare-metal instance type: single addresses are used")
	}

	result.MaxPods = result.MaxAllowed
	if !p.Uncapped {
		result.MaxPods = min(result.MaxPods, recommended(g.VCPUs))
	}
	if p.Limit != nil {
		result.MaxPods = min(result.MaxPods, *p.Limit)
	}
	if p.KubeletMaxPods != nil {
		if *p.KubeletMaxPods > result.MaxPods {
			result.Warnings = append(result.Warnings, Warning(fmt.Sprintf(
				"kubelet.maxPods %d exceeds what this instance type may hold on the pod network: %d is used", *p.KubeletMaxPods, result.MaxPods)))
		}
		result.MaxPods = min(result.MaxPods, *p.KubeletMaxPods)
	}
	if p.PodsPerCore != nil && *p.PodsPerCore > 0 {
		result.MaxPods = min(result.MaxPods, *p.PodsPerCore*g.VCPUs)
	}
	result.MaxPods = max(result.MaxPods, 0)
	if prefixes {
		result.Prefixes = ceil(max(result.MaxPods-HostNetworkPods, 0), AddressesPerPrefix)
	}
	result.KubeReservedMemoryMiB = KubeReservedMemoryMiB(result.MaxPods)
	return result
}

// SingleMaxPods is what max-pods becomes when a node that was to have a /28 in each slot gets a single address there instead: all
// else that lowers it lowers both alike.
func SingleMaxPods(maxPods, podENIs, ipsPerENI int) int {
	return min(maxPods, max(podENIs, 0)*max(ipsPerENI-1, 0)+HostNetworkPods)
}

// KubeReservedMemoryMiB is what the EKS AMIs reserve for the kubelet and the container runtime.
func KubeReservedMemoryMiB(maxPods int) int { return 11*maxPods + 255 }

// KubeReservedCPUMillis is what the EKS AMIs reserve: 6% of the first core, 1% of the second, 0.5% of the third and
// fourth, 0.25% of all others.
func KubeReservedCPUMillis(vcpus int) int {
	const tenths = 10 // count in tenths of a millicore, so that 0.25% of a core (2.5m) stays exact
	reserved := 0
	for core := 1; core <= vcpus; core++ {
		switch {
		case core == 1:
			reserved += 60 * tenths
		case core == 2:
			reserved += 10 * tenths
		case core <= 4:
			reserved += 5 * tenths
		default:
			reserved += 25
		}
	}
	return reserved / tenths
}

func recommended(vcpus int) int {
	if vcpus <= recommendedSmallVCPUs {
		return recommendedSmall
	}
	return recommendedLarge
}
