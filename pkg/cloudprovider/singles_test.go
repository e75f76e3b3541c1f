// SPDX-License-Identifier: Apache-2.0

package cloudprovider_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	core "sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cloudprovider"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// fragment leaves a subnet without a /28, and returns what undoes it.
func (r *region) fragment(subnet, cidr string) (mend func()) {
	var enis []string
	prefix := netip.MustParsePrefix(cidr)
	first := prefix.Addr().As4()
	for offset := 8; offset < 1<<(32-prefix.Bits()); offset += 16 {
		var address [4]byte
		binary.BigEndian.PutUint32(address[:], binary.BigEndian.Uint32(first[:])+uint32(offset)) //nolint:gosec // of a small subnet
		out, err := r.ec2.CreateNetworkInterface(r.Context(), &ec2.CreateNetworkInterfaceInput{
			SubnetId: &subnet, PrivateIpAddress: aws.String(netip.AddrFrom4(address).String()),
		})
		require.NoError(r, err)
		enis = append(enis, *out.NetworkInterface.NetworkInterfaceId)
	}
	return func() {
		for _, id := range enis {
			_, err := r.ec2.DeleteNetworkInterface(r.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &id})
			require.NoError(r, err)
		}
	}
}

// shortRegion has a fragmented pod subnet in zone a, 235 free addresses and no /28, and a large one in zone b.
func shortRegion(t *testing.T, configure func(*v1alpha1.PodNetwork)) (r *region, p *cloudprovider.CloudProvider, fragmented string, mend func()) {
	r = newRegion(t, chartstest.StartAPIServer(t))
	fragmented = r.podSubnet("us-east-1a", "us-east-1a", "100.64.0.0/24")
	mend = r.fragment(fragmented, "100.64.0.0/24")
	r.podSubnet("us-east-1b", "us-east-1b", "100.64.32.0/19")
	configure(r.network)
	p = r.controller(time.Now().Add(-time.Minute))
	require.NoError(t, p.PodSubnets.Ensure(r.ctx(), lo.Map(r.network.Status.Zones, func(z v1alpha1.ZoneStatus, _ int) string { return z.Subnet })...))
	return r, p, fragmented, mend
}

func asItIs(*v1alpha1.PodNetwork) {}

var (
	inZoneA = in(corev1.LabelTopologyZone, "us-east-1a")
	m5Large = in(corev1.LabelInstanceTypeStable, "m5.large")
)

func (r *region) instance(created *karpv1.NodeClaim) simulator.Instance {
	found, ok := lo.Find(r.cloud.Snapshot().Instances, func(i simulator.Instance) bool { return i.ID == podnetwork.InstanceOf(created) })
	require.True(r, ok)
	return found
}

// holdAddresses does what the agents of full nodes of single addresses do: two ENIs of an m5.large with ten addresses each.
func (r *region) holdAddresses(created *karpv1.NodeClaim) {
	for range 2 {
		_, err := r.ec2.CreateNetworkInterface(r.Context(), &ec2.CreateNetworkInterfaceInput{
			SubnetId: aws.String(created.Annotations[v1alpha1.AnnotationLaunchedPodSubnet]), SecondaryPrivateIpAddressCount: aws.Int32(9),
			TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeNetworkInterface, Tags: []ec2types.Tag{
				{Key: aws.String("node.k8s.amazonaws.com/instance_id"), Value: aws.String(podnetwork.InstanceOf(created))},
			}}},
		})
		require.NoError(r, err, "over-committed")
	}
}

func TestWhereNoBlockIsLeftNodesGetSingleAddresses(t *testing.T) {
	r, p, fragmented, mend := shortRegion(t, asItIs)

	launched := r.launch(p, r.claims(20, m5Large, inZoneA))
	require.Len(t, launched, 11, "235 addresses, 20 a node")
	var single *karpv1.NodeClaim
	for _, single = range launched {
		require.Equal(t, map[string]string{"max-pods": "20", "prefixes": "Disabled", "zone": "us-east-1a"}, map[string]string{
			"max-pods": single.Labels[v1alpha1.LabelMaxPods], "prefixes": single.Labels[v1alpha1.LabelPrefixDelegation], "zone": single.Labels[corev1.LabelTopologyZone],
		})
		require.EqualValues(t, 20, single.Status.Capacity.Pods().Value())
		require.Equal(t, "prefixes=0,addresses=18,enis=2", single.Annotations[v1alpha1.AnnotationLaunchedNeed])
		require.Equal(t, fragmented, single.Annotations[v1alpha1.AnnotationLaunchedPodSubnet])
		userData := string(r.instance(single).UserData)
		require.Contains(t, userData, "maxPods: 20")
		require.Contains(t, userData, "memory: 475Mi", "kube-reserved of as many pods")
		require.Contains(t, userData, v1alpha1.LabelPrefixDelegation+"=Disabled")
		require.Contains(t, userData, v1alpha1.LabelMaxPods+"=20")
	}
	require.Contains(t, <-r.events.Events, fmt.Sprintf("Warning %s Launched with single addresses in place of /28s, for 20 pods instead of 110: pod subnet %s (zone us-east-1a, ENIConfig us-east-1a): 0 /28 blocks free",
		cloudprovider.ReasonSingleAddresses, fragmented))
	for _, created := range launched {
		r.holdAddresses(created)
	}
	require.NoError(t, p.PodSubnets.Refresh(r.ctx()))

	elsewhere := r.launch(p, r.claims(3, m5Large))
	require.Equal(t, map[string]int{"us-east-1b": 3}, byZone(elsewhere))
	usual := lo.Values(elsewhere)[0]
	require.Equal(t, "110", usual.Labels[v1alpha1.LabelMaxPods])
	require.Equal(t, "Enabled", usual.Labels[v1alpha1.LabelPrefixDelegation])

	t.Run("nodes of either kind stay when the shortage is over", func(t *testing.T) {
		requireStay(t, r, p, single, usual)
		mend()
		for claim, created := range launched { // EC2 scatters single addresses: while one such node is there, few blocks are free
			r.end(created)
			p.PodSubnets.Ledger.Gone(claim.Name)
		}
		r.clock.Step(4 * time.Minute) // nobody saw their NodeClaims launched
		require.NoError(t, p.PodSubnets.Refresh(r.ctx()))
		requireStay(t, r, p, single, usual) // as labelled
		again := r.launch(p, r.claims(1, m5Large, inZoneA))
		require.Equal(t, "110", lo.Values(again)[0].Labels[v1alpha1.LabelMaxPods], "there are /28s again")
	})
}

// requireStay tells that Karpenter replaces none of the nodes.
func requireStay(t *testing.T, r *region, p *cloudprovider.CloudProvider, nodes ...*karpv1.NodeClaim) {
	t.Helper()
	list, err := p.GetInstanceTypes(r.ctx(), r.pool())
	require.NoError(t, err)
	for _, node := range nodes {
		it, _ := lo.Find(list, func(it *core.InstanceType) bool { return it.Name == node.Labels[corev1.LabelInstanceTypeStable] })
		require.True(t, it.Offerings.HasCompatible(scheduling.NewLabelRequirements(node.Labels)), "InstanceTypeNotFound: %v", node.Labels)
		claim := node.DeepCopy()
		claim.Spec.NodeClassRef = r.pool().Spec.Template.Spec.NodeClassRef
		reason, err := p.IsDrifted(r.ctx(), claim)
		require.NoError(t, err)
		require.Empty(t, reason)
	}
}

func (r *region) pool() *karpv1.NodePool {
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	pool.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
	return pool
}

func TestWhoAsksForAMaxPodsGetsNoSmallerNode(t *testing.T) {
	r, p, _, _ := shortRegion(t, asItIs)
	for name, required := range map[string]karpv1.NodeSelectorRequirementWithMinValues{
		"max-pods": in(v1alpha1.LabelMaxPods, "110"), "prefixes": ofPrefixes,
	} {
		_, err := p.Create(r.ctx(), r.claims(1, m5Large, inZoneA, required)[0])
		require.True(t, core.IsInsufficientCapacityError(err), "%s: %v", name, err)
		require.ErrorContains(t, err, "235 single addresses free, which no instance type gives that the NodeClaim allows", name)
		require.Equal(t, map[string]int{"us-east-1b": 1}, byZone(r.launch(p, r.claims(1, m5Large, required))), name)
	}
	many := r.claims(1, m5Large)[0]
	many.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourcePods: *quantity(60)}
	require.Equal(t, map[string]int{"us-east-1b": 1}, byZone(r.launch(p, []*karpv1.NodeClaim{many})))
	many.Spec.Requirements = append(many.Spec.Requirements, inZoneA)
	_, err := p.Create(r.ctx(), many)
	require.True(t, core.IsInsufficientCapacityError(err), "%v", err)
}

func TestSingleAddressesOfStaticNodesComeWithTheLaunch(t *testing.T) {
	r, p, fragmented, _ := shortRegion(t, func(n *v1alpha1.PodNetwork) { n.Spec.Addressing.Allocation = v1alpha1.AllocationStatic })
	launched := r.launch(p, r.claims(1, m5Large, inZoneA))
	require.Len(t, launched, 1)
	created := lo.Values(launched)[0]
	require.Equal(t, "Static", created.Labels[v1alpha1.LabelAllocation])
	require.Equal(t, "20", created.Labels[v1alpha1.LabelMaxPods])
	addresses := 0
	for _, i := range r.cloud.Snapshot().Interfaces {
		if i.SubnetID == fragmented && i.Attachment != nil && i.Attachment.InstanceID == podnetwork.InstanceOf(created) {
			require.Empty(t, i.Prefixes)
			addresses += len(i.Secondaries)
		}
	}
	require.Equal(t, 18, addresses)
}

func TestNetworksWithoutAWayOutBySingleAddresses(t *testing.T) {
	t.Run("aws-node has one setting for all nodes", func(t *testing.T) {
		r, p, _, _ := shortRegion(t, func(n *v1alpha1.PodNetwork) { n.Spec.Agent = v1alpha1.AgentVPCCNI })
		_, err := p.Create(r.ctx(), r.claims(1, m5Large, inZoneA)[0])
		require.True(t, core.IsInsufficientCapacityError(err), "%v", err)
		require.ErrorContains(t, err, "235 single addresses free, which aws-node does not give beside prefixes")
	})
	t.Run("without prefix delegation single addresses are the rule", func(t *testing.T) {
		r, p, _, _ := shortRegion(t, func(n *v1alpha1.PodNetwork) { n.Spec.Addressing.PrefixDelegation = v1alpha1.Disabled })
		require.Len(t, r.launch(p, r.claims(1, m5Large, inZoneA)), 1)
		require.Empty(t, r.events.Events)
	})
}

func quantity(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.DecimalSI) }
