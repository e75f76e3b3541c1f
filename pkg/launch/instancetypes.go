// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"fmt"
	"strconv"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// InstanceTypes is upstream's instance type resolver, given a node class whose kubelet configuration carries the pod
// network's max-pods and kube-reserved for that type.
type InstanceTypes struct {
	Upstream instancetype.Resolver
	Network  NetworkOf
}

var _ instancetype.Resolver = InstanceTypes{}

// CacheKey adds what Resolve takes from the pod network to upstream's key.
func (r InstanceTypes) CacheKey(nodeClass instancetype.NodeClass) string {
	network, err := r.Network.of(context.Background(), nodeClass) // the seam has no context; the reader is a cache
	if err != nil || network == nil {
		return r.Upstream.CacheKey(nodeClass)
	}
	return fmt.Sprintf("%s-%s-%s", r.Upstream.CacheKey(nodeClass), network.Name, network.Hash())
}

// Resolve returns the instance type as it is on the node class's pod network. A type without a pod ENI keeps its place
// with room for no pods, because instances of it may exist: Offerings withholds it from launches.
func (r InstanceTypes) Resolve(ctx context.Context, info ec2types.InstanceTypeInfo, zones []string, nodeClass instancetype.NodeClass) *cloudprovider.InstanceType {
	network, err := r.Network.of(ctx, nodeClass)
	if err != nil {
		log.FromContext(ctx).Error(err, "finding the pod network of a node class", "EC2NodeClass", nodeClass.GetName())
		return nil
	}
	if network == nil {
		return withoutPodNetwork(r.Upstream.Resolve(ctx, info, zones, nodeClass))
	}
	geometry := podcapacity.GeometryOf(info)
	capacity := podcapacity.Compute(geometry, policy(ctx, network, nodeClass))
	it := r.Upstream.Resolve(ctx, info, zones, withKubelet(nodeClass, capacity))
	if it == nil {
		return nil
	}
	in := func(label, value string) *scheduling.Requirement {
		return scheduling.NewRequirement(label, corev1.NodeSelectorOpIn, value)
	}
	it.Requirements.Add(
		in(v1alpha1.LabelPodNetwork, network.Name),
		in(v1alpha1.LabelMaxPods, strconv.FormatInt(it.Capacity.Pods().Value(), 10)),
		in(v1alpha1.LabelENIs, strconv.Itoa(geometry.ENIs)),
		in(v1alpha1.LabelIPsPerENI, strconv.Itoa(geometry.IPsPerENI)),
		scheduling.NewRequirement(v1alpha1.LabelAllocation, corev1.NodeSelectorOpIn, Allocations(network)...),
		in(v1alpha1.LabelAgent, string(podnetwork.AgentOf(network))),
		in(v1alpha1.LabelPrefixDelegation, string(prefixDelegation(network, geometry))),
		scheduling.NewRequirement(v1alpha1.LabelENIConfig, corev1.NodeSelectorOpExists),
	)
	return it
}

// withoutPodNetwork says of each of our labels that it does not exist: Karpenter wants every well-known label to be
// decided on every instance type. A free eniConfig label, as aws-node's users set it, stays theirs.
func withoutPodNetwork(it *cloudprovider.InstanceType) *cloudprovider.InstanceType {
	if it == nil {
		return nil
	}
	for _, label := range v1alpha1.Labels() {
		it.Requirements.Add(scheduling.NewRequirement(label, corev1.NodeSelectorOpDoesNotExist))
	}
	it.Requirements.Add(scheduling.NewRequirement(v1alpha1.LabelENIConfig, corev1.NodeSelectorOpExists))
	return it
}

// prefixDelegation of nodes of a type, as they are launched where nothing is short.
func prefixDelegation(network *v1alpha1.PodNetwork, geometry podcapacity.Geometry) v1alpha1.Toggle {
	if network.Spec.Addressing.PrefixDelegation == v1alpha1.Disabled || !geometry.PrefixCapable {
		return v1alpha1.Disabled
	}
	return v1alpha1.Enabled
}

func policy(ctx context.Context, network *v1alpha1.PodNetwork, nodeClass instancetype.NodeClass) podcapacity.Policy {
	p := podcapacity.Policy{
		CustomNetworking: true,
		PrefixDelegation: network.Spec.Addressing.PrefixDelegation != v1alpha1.Disabled,
		ReservedENIs:     options.FromContext(ctx).ReservedENIs,
		Uncapped:         network.Spec.MaxPods.Policy == v1alpha1.MaxPodsMaximum,
		Limit:            toInt(network.Spec.MaxPods.Limit),
	}
	if kubelet := nodeClass.KubeletConfiguration(); kubelet != nil {
		p.KubeletMaxPods = toInt(kubelet.MaxPods)
		if amifamily.GetAMIFamily(nodeClass.AMIFamily(), &amifamily.Options{}).FeatureFlags().PodsPerCoreEnabled {
			p.PodsPerCore = toInt(kubelet.PodsPerCore)
		}
	}
	return p
}

func toInt(value *int32) *int {
	if value == nil {
		return nil
	}
	return lo.ToPtr(int(*value))
}

// kubeletNodeClass is a node class with another kubelet configuration.
type kubeletNodeClass struct {
	instancetype.NodeClass
	kubelet *ec2nodeclass.KubeletConfiguration
}

func (n kubeletNodeClass) KubeletConfiguration() *ec2nodeclass.KubeletConfiguration { return n.kubelet }

// withKubelet sets max-pods, and the memory that is reserved for that many pods unless the user has set their own:
// upstream would compute it from the ENI limits instead (karpenter-provider-aws #1803).
func withKubelet(nodeClass instancetype.NodeClass, capacity podcapacity.Result) instancetype.NodeClass {
	kubelet := &ec2nodeclass.KubeletConfiguration{}
	if own := nodeClass.KubeletConfiguration(); own != nil {
		kubelet = own.DeepCopy()
	}
	kubelet.MaxPods = lo.ToPtr(int32(capacity.MaxPods)) //nolint:gosec // bounded by EC2's limits, far below 2^31
	kubelet.KubeReserved = lo.Assign(
		map[string]string{string(corev1.ResourceMemory): fmt.Sprintf("%dMi", capacity.KubeReservedMemoryMiB)},
		kubelet.KubeReserved,
	)
	return kubeletNodeClass{NodeClass: nodeClass, kubelet: kubelet}
}
