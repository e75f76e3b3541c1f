// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"slices"
	"strings"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily"
	"github.com/samber/lo"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
)

// Templates is upstream's launch template resolver, called once for each set of kubelet values among the instance
// types. It writes max-pods and the whole of kube-reserved into the user data, as the scheduler counted them: otherwise
// the node's bootstrap would compute its own from the ENI limits, and the two would disagree.
type Templates struct {
	Upstream amifamily.Resolver
}

var _ amifamily.Resolver = Templates{}

// Resolve leaves instance types that are on no pod network to upstream as they are.
func (r Templates) Resolve(nodeClass *ec2nodeclass.EC2NodeClass, nodeClaim *karpv1.NodeClaim, instanceTypes []*cloudprovider.InstanceType,
	capacityType, tenancyType string, opts *amifamily.Options, placementGroupID string, placementGroupPartition int32) ([]*amifamily.LaunchTemplate, error) {
	groups := lo.GroupBy(instanceTypes, kubeletKey)
	keys := lo.Keys(groups)
	slices.Sort(keys)
	var templates []*amifamily.LaunchTemplate
	for _, key := range keys {
		group := groups[key]
		resolved, err := r.Upstream.Resolve(forKubeletOf(group[0], nodeClass), nodeClaim, group, capacityType, tenancyType, opts, placementGroupID, placementGroupPartition)
		if err != nil {
			return nil, err
		}
		templates = append(templates, resolved...)
	}
	return templates, nil
}

// kubeletKey is equal for instance types whose user data may be the same.
func kubeletKey(it *cloudprovider.InstanceType) string {
	if !onPodNetwork(it) {
		return ""
	}
	reserved := kubeReserved(it)
	keys := lo.Keys(reserved)
	slices.Sort(keys)
	parts := lo.Map(keys, func(k string, _ int) string { return k + "=" + reserved[k] })
	return fmt.Sprintf("%d %s", it.Capacity.Pods().Value(), strings.Join(parts, ","))
}

func forKubeletOf(it *cloudprovider.InstanceType, nodeClass *ec2nodeclass.EC2NodeClass) *ec2nodeclass.EC2NodeClass {
	if !onPodNetwork(it) {
		return nodeClass
	}
	own := nodeClass.DeepCopy()
	if own.Spec.Kubelet == nil {
		own.Spec.Kubelet = &ec2nodeclass.KubeletConfiguration{}
	}
	own.Spec.Kubelet.MaxPods = lo.ToPtr(int32(it.Capacity.Pods().Value())) //nolint:gosec // at most EC2's addresses an instance
	own.Spec.Kubelet.KubeReserved = kubeReserved(it)
	return own
}

func kubeReserved(it *cloudprovider.InstanceType) map[string]string {
	reserved := make(map[string]string, len(it.Overhead.KubeReserved))
	for name, quantity := range it.Overhead.KubeReserved {
		reserved[string(name)] = quantity.String()
	}
	return reserved
}
