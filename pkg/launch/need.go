// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"strconv"
	"strings"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// NeedOf an instance type that InstanceTypes resolved for the network. A launch of static allocation may turn out to be dynamic,
// which needs no less.
func NeedOf(ctx context.Context, network *v1alpha1.PodNetwork, it *cloudprovider.InstanceType) podcapacity.Need {
	return need(ctx, network, func(label string) string { return it.Requirements.Get(label).Any() }, false)
}

// NeedOfNode reads the same from the labels of a node, or of its NodeClaim. One that could not be launched with its pod ENIs takes
// addresses while it runs.
func NeedOfNode(ctx context.Context, network *v1alpha1.PodNetwork, labels map[string]string) podcapacity.Need {
	static := labels[v1alpha1.LabelAllocation] == string(v1alpha1.AllocationStatic)
	return need(ctx, network, func(label string) string { return labels[label] }, static)
}

// MostOf needs is enough for each of the instance types.
func MostOf(ctx context.Context, network *v1alpha1.PodNetwork, instanceTypes cloudprovider.InstanceTypes) podcapacity.Need {
	var most podcapacity.Need
	for _, it := range instanceTypes {
		n := NeedOf(ctx, network, it)
		most = podcapacity.Need{Prefixes: max(most.Prefixes, n.Prefixes), Addresses: max(most.Addresses, n.Addresses), ENIs: max(most.ENIs, n.ENIs)}
	}
	return most
}

func need(ctx context.Context, network *v1alpha1.PodNetwork, label func(string) string, static bool) podcapacity.Need {
	return nodeNeed(ctx, network, label, static).Most()
}

func nodeNeed(ctx context.Context, network *v1alpha1.PodNetwork, label func(string) string, static bool) podcapacity.NodeNeed {
	number := func(key string) int {
		value, err := strconv.Atoi(label(key))
		if err != nil {
			return 0
		}
		return value
	}
	return podcapacity.NodeNeed{
		MaxPods:   number(v1alpha1.LabelMaxPods),
		PodENIs:   number(v1alpha1.LabelENIs) - 1 - options.FromContext(ctx).ReservedENIs,
		IPsPerENI: number(v1alpha1.LabelIPsPerENI),
		Prefixes: prefixCapable(label) && network.Spec.Addressing.PrefixDelegation != v1alpha1.Disabled &&
			label(v1alpha1.LabelPrefixDelegation) != string(v1alpha1.Disabled),
		Static:    static,
		WholeENIs: network.Spec.Agent == v1alpha1.AgentVPCCNI,
	}
}

// prefixCapable tells by Karpenter's labels whether a type is Nitro or bare metal.
func prefixCapable(label func(string) string) bool {
	return label(ec2nodeclass.LabelInstanceHypervisor) == string(ec2types.InstanceTypeHypervisorNitro) ||
		strings.HasPrefix(label(ec2nodeclass.LabelInstanceSize), "metal")
}
