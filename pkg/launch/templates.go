// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"maps"
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
//
// A launch of static allocation has one more for each zone, with the pod ENIs in it.
type Templates struct {
	Upstream amifamily.Resolver
	Launches *Launches
}

var _ amifamily.Resolver = Templates{}

// Resolve leaves instance types that are on no pod network to upstream as they are.
func (r Templates) Resolve(nodeClass *ec2nodeclass.EC2NodeClass, nodeClaim *karpv1.NodeClaim, instanceTypes []*cloudprovider.InstanceType,
	capacityType, tenancyType string, opts *amifamily.Options, placementGroupID string, placementGroupPartition int32) ([]*amifamily.LaunchTemplate, error) {
	request := templateRequest{
		upstream: r.Upstream, nodeClass: nodeClass, nodeClaim: nodeClaim, capacityType: capacityType, tenancyType: tenancyType,
		placementGroupID: placementGroupID, placementGroupPartition: placementGroupPartition,
	}
	if launch := r.Launches.of(nodeClass); launch != nil {
		return r.static(launch, request, instanceTypes, opts)
	}
	return request.resolve(instanceTypes, opts, kubeletKey)
}

// templateRequest is what all templates of a launch have in common.
type templateRequest struct {
	upstream                  amifamily.Resolver
	nodeClass                 *ec2nodeclass.EC2NodeClass
	nodeClaim                 *karpv1.NodeClaim
	capacityType, tenancyType string
	placementGroupID          string
	placementGroupPartition   int32
}

// resolve asks upstream for the templates of each group of instance types that may share one.
func (q templateRequest) resolve(instanceTypes []*cloudprovider.InstanceType, opts *amifamily.Options, key func(*cloudprovider.InstanceType) string) ([]*amifamily.LaunchTemplate, error) {
	groups := lo.GroupBy(instanceTypes, key)
	var templates []*amifamily.LaunchTemplate
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		group := groups[name]
		resolved, err := q.upstream.Resolve(forKubeletOf(group[0], q.nodeClass), q.nodeClaim, group, q.capacityType, q.tenancyType, opts, q.placementGroupID, q.placementGroupPartition)
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
