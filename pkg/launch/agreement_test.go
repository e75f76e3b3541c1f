// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"encoding/base64"
	"slices"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	sandboxaws "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/kubelet"
)

// agreement is one way of asking for max-pods.
type agreement struct {
	change  func(*v1alpha1.PodNetwork)
	kubelet *ec2nodeclass.KubeletConfiguration
	// userData of the user's own, by AMI family. Karpenter merges its own into them.
	userData map[string]string
}

// fewer max-pods than any family would be given: in the user's own user data they must not reach the kubelet.
var conflicting = map[string]string{
	ec2nodeclass.AMIFamilyAL2:          "#!/bin/bash\necho 'mine'\n",
	ec2nodeclass.AMIFamilyAL2023:       "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {kubelet: {config: {maxPods: 3, kubeReserved: {memory: 1Mi}}}}\n",
	ec2nodeclass.AMIFamilyBottlerocket: "[settings.kubernetes]\nmax-pods = 3\n[settings.kubernetes.kube-reserved]\nmemory = '1Mi'\n",
}

var agreements = map[string]agreement{
	"recommended":      {},
	"maximum":          {change: func(n *v1alpha1.PodNetwork) { n.Spec.MaxPods.Policy = v1alpha1.MaxPodsMaximum }},
	"single addresses": {change: func(n *v1alpha1.PodNetwork) { n.Spec.Addressing.PrefixDelegation = v1alpha1.Disabled }},
	"single addresses, maximum": {change: func(n *v1alpha1.PodNetwork) {
		n.Spec.Addressing.PrefixDelegation, n.Spec.MaxPods.Policy = v1alpha1.Disabled, v1alpha1.MaxPodsMaximum
	}},
	"the network's limit":   {change: func(n *v1alpha1.PodNetwork) { n.Spec.MaxPods.Limit = aws.Int32(64) }},
	"a low kubelet.maxPods": {kubelet: &ec2nodeclass.KubeletConfiguration{MaxPods: aws.Int32(31)}},
	"a kubelet.maxPods above all": {
		change:  func(n *v1alpha1.PodNetwork) { n.Spec.MaxPods.Policy = v1alpha1.MaxPodsMaximum },
		kubelet: &ec2nodeclass.KubeletConfiguration{MaxPods: aws.Int32(30000)},
	},
	"podsPerCore":          {kubelet: &ec2nodeclass.KubeletConfiguration{PodsPerCore: aws.Int32(7)}},
	"part of kubeReserved": {kubelet: &ec2nodeclass.KubeletConfiguration{KubeReserved: map[string]string{"cpu": "123m"}}},
	"all that is reserved": {kubelet: &ec2nodeclass.KubeletConfiguration{
		KubeReserved:   map[string]string{"cpu": "250m", "memory": "2Gi", "ephemeral-storage": "3Gi"},
		SystemReserved: map[string]string{"cpu": "50m", "memory": "200Mi", "ephemeral-storage": "1Gi"},
		EvictionHard:   map[string]string{"memory.available": "300Mi"},
	}},
	"user data of the user's own": {userData: conflicting},
}

// promised is the design's formula, on the figures of the table that the VPC CNI's users go by: another reading of EC2's limits
// than podcapacity's. It is false for types that the table does not have.
func (a agreement) promised(info ec2types.InstanceTypeInfo, family string) (pods int64, known bool) {
	limits, known := instancetype.Limits[string(info.InstanceType)]
	if !known {
		return 0, false
	}
	card, known := lo.Find(limits.NetworkCards, func(c instancetype.NetworkCard) bool {
		return c.NetworkCardIndex == int64(limits.DefaultNetworkCardIndex)
	})
	if !known || card.MaximumNetworkInterfaces < 2 {
		return 0, known
	}
	n, vcpus := network(), int64(*info.VCpuInfo.DefaultVCpus)
	if a.change != nil {
		a.change(n)
	}
	pods = (card.MaximumNetworkInterfaces - 1) * int64(limits.IPv4PerInterface-1)
	if n.Spec.Addressing.PrefixDelegation != v1alpha1.Disabled && (limits.Hypervisor == "nitro" || limits.IsBareMetal) {
		pods *= 16
	}
	pods += 2
	if n.Spec.MaxPods.Policy != v1alpha1.MaxPodsMaximum {
		pods = min(pods, lo.Ternary[int64](vcpus <= 30, 110, 250))
	}
	if limit := n.Spec.MaxPods.Limit; limit != nil {
		pods = min(pods, int64(*limit))
	}
	if a.kubelet != nil && a.kubelet.MaxPods != nil {
		pods = min(pods, int64(*a.kubelet.MaxPods))
	}
	if a.kubelet != nil && a.kubelet.PodsPerCore != nil && family != ec2nodeclass.AMIFamilyBottlerocket { // it knows no podsPerCore
		pods = min(pods, int64(*a.kubelet.PodsPerCore)*vcpus)
	}
	return pods, true
}

// resolveAll instance types of the embedded table.
func (a agreement) resolveAll(t *testing.T, class *ec2nodeclass.EC2NodeClass) []*cloudprovider.InstanceType {
	n := network()
	if a.change != nil {
		a.change(n)
	}
	return resolve(t, n, class, instancetypes.Names()...)
}

func (a agreement) nodeClass(family string) *ec2nodeclass.EC2NodeClass {
	class := nodeClass(family, a.kubelet)
	if own, ok := a.userData[family]; ok {
		class.Spec.UserData = aws.String(own)
	}
	return class
}

// TestSchedulerUserDataAndNodeAgreeForEveryInstanceType compares, for all types of the embedded table, what the scheduler counts
// with, what the user data of the type's launch template say, and the Node that a kubelet makes of them.
func TestSchedulerUserDataAndNodeAgreeForEveryInstanceType(t *testing.T) {
	t.Parallel()
	for _, family := range []string{ec2nodeclass.AMIFamilyAL2, ec2nodeclass.AMIFamilyAL2023, ec2nodeclass.AMIFamilyBottlerocket} {
		for name, a := range agreements {
			t.Run(family+"/"+name, func(t *testing.T) {
				t.Parallel()
				class := a.nodeClass(family)
				all := a.resolveAll(t, class)
				// Those without a pod ENI are offered nowhere (TestTypesWithoutAPodENIAreWithheldWithThatReason), and no family has
				// an image for a Mac.
				launchable := lo.Filter(all, func(it *cloudprovider.InstanceType, _ int) bool {
					return it.Capacity.Pods().Value() > 0 && slices.Contains([]string{"amd64", "arm64"}, label(it, corev1.LabelArchStable))
				})
				require.Greater(t, len(launchable), 1350)
				checked := 0
				for _, template := range launchTemplates(t, class, launchable) {
					userData, err := bootstrap.DecodeUserData(rawUserData(t, template))
					require.NoError(t, err)
					for _, it := range template.InstanceTypes {
						checked++
						machine := machines()[it.Name]
						machine.UserData = userData
						a.check(t, family, it, machine)
					}
				}
				require.Equal(t, len(launchable), checked, "each type is in one template")
			})
		}
	}
}

func rawUserData(t *testing.T, template *amifamily.LaunchTemplate) []byte {
	t.Helper()
	script, err := template.UserData.Script(testContext())
	require.NoError(t, err)
	raw, err := base64.StdEncoding.DecodeString(script)
	require.NoError(t, err)
	return raw
}

// machines of all types, without the user data of a launch.
var machines = sync.OnceValue(func() map[string]bootstrap.Machine {
	all := map[string]bootstrap.Machine{}
	for _, name := range instancetypes.Names() {
		machine, err := sandbox.MachineOf(sandboxaws.Instance{Type: name, UserData: []byte("[settings.kubernetes]\ncluster-name = 'test'\napi-server = 'https://10.0.0.9'\n")})
		if err != nil {
			panic(err)
		}
		all[name] = machine
	}
	return all
})

// check one type. It formats nothing unless something is wrong: there are tens of thousands.
func (a agreement) check(t *testing.T, family string, it *cloudprovider.InstanceType, machine bootstrap.Machine) {
	t.Helper()
	node := kubelet.NewNode(machine, nil)
	scheduled, pods := it.Allocatable(), it.Capacity.Pods().Value()

	type figures struct {
		label                                            string
		scheduled, userData, capacity, allocatable, want int64
	}
	got := figures{
		label(it, v1alpha1.LabelMaxPods), scheduled.Pods().Value(), int64(machine.UserData.MaxPods),
		node.Status.Capacity.Pods().Value(), node.Status.Allocatable.Pods().Value(), pods,
	}
	if want, known := a.promised(info(t, it.Name), family); known {
		got.want = want
	}
	if agreed := (figures{got.label, pods, pods, pods, pods, pods}); got != agreed || label(it, v1alpha1.LabelMaxPods) != it.Capacity.Pods().String() {
		require.Failf(t, "max-pods differ", "%s: %+v, %d in the capacity", it.Name, got, pods)
	}

	reserved := machine.KubeReserved
	if len(reserved) != len(it.Overhead.KubeReserved) {
		require.Failf(t, "kube-reserved differ", "%s: scheduled %v, user data %v", it.Name, it.Overhead.KubeReserved, reserved)
	}
	for resourceName, quantity := range it.Overhead.KubeReserved {
		if onNode, err := resource.ParseQuantity(reserved[string(resourceName)]); err != nil || onNode.Cmp(quantity) != 0 {
			require.Failf(t, "kube-reserved differ", "%s: scheduled %s %s, user data %q", it.Name, resourceName, quantity.String(), reserved[string(resourceName)])
		}
	}
	if a.kubelet == nil || a.kubelet.KubeReserved["memory"] == "" {
		if memory := memoryMiB(it.Overhead.KubeReserved); memory != 11*pods+255 {
			require.Failf(t, "kube-reserved memory", "%s: %d MiB for %d pods", it.Name, memory, pods)
		}
	}
	for _, resourceName := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if promised, has := scheduled[resourceName], node.Status.Allocatable[resourceName]; has.Cmp(promised) < 0 {
			require.Failf(t, "a node has less than was scheduled on it", "%s: %s %s, and %s on the node", it.Name, resourceName, promised.String(), has.String())
		}
	}
}

// The three kinds of types that are easy to get wrong are in the table, with what makes them so.
func TestMultiCardXenAndBareMetalTypesHoldWhatTheirDefaultCardServes(t *testing.T) {
	maximum := agreements["maximum"]
	class := maximum.nodeClass(ec2nodeclass.AMIFamilyAL2023)
	byName := lo.KeyBy(maximum.resolveAll(t, class), func(it *cloudprovider.InstanceType) string { return it.Name })
	for name, pods := range map[string]int64{
		"p4d.24xlarge": 14*49*16 + 2, "p5.48xlarge": 1*49*16 + 2, "hpc6id.32xlarge": 0, // 4 cards, 32 cards, one ENI a card
		"t2.small": 2*3 + 2, "m4.large": 1*9 + 2, // Xen: no prefixes
		"m5.metal": 14*49*16 + 2, "a1.metal": 7*29*16 + 2, // bare metal
	} {
		require.Equal(t, pods, byName[name].Capacity.Pods().Value(), name)
	}
}

func TestTypesWithoutAPodENIAreWithheldWithThatReason(t *testing.T) {
	n, class := network(), nodeClass(ec2nodeclass.AMIFamilyAL2023, nil)
	n.Name = "withholds" // the metric counts per pod network
	resolver := launch.NewOfferings(always(n), emptyLedger())
	var without []string
	for _, it := range resolve(t, n, class, instancetypes.Names()...) {
		after := resolver.ResolveOfferings(testContext(), it, offered(it, map[string]float64{zone: 1}).Offerings, ec2types.InstanceTypeInfo{}, class, nil, nil, nil, nil)
		pods, known := agreement{}.promised(info(t, it.Name), ec2nodeclass.AMIFamilyAL2023)
		require.Len(t, after, 1, it.Name)
		require.Equal(t, it.Capacity.Pods().Value() > 0, after[0].Available, it.Name)
		require.True(t, !known || pods > 0 == after[0].Available, it.Name)
		if !after[0].Available {
			without = append(without, it.Name)
		}
	}
	require.Contains(t, without, "hpc6id.32xlarge")
	require.Equal(t, map[string]float64{launch.ReasonNoPodENI: float64(len(without))}, withheldReasons(t, n.Name))
	t.Logf("%d types have no pod ENI: %v", len(without), without)
}

// withheldReasons counts the offerings that a pod network cannot serve now.
func withheldReasons(t *testing.T, podNetwork string) map[string]float64 {
	t.Helper()
	families, err := crmetrics.Registry.Gather()
	require.NoError(t, err)
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "dovetail_unavailable_offerings" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, pair := range metric.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			if labels["pod_network"] == podNetwork && metric.GetGauge().GetValue() > 0 {
				counts[labels["reason"]] += metric.GetGauge().GetValue()
			}
		}
	}
	return counts
}

// A custom image's user data are the user's: Karpenter adds nothing, so nothing may be added that contradicts them.
func TestACustomImagesUserDataAreTheUsers(t *testing.T) {
	class := nodeClass(ec2nodeclass.AMIFamilyCustom, nil)
	class.Spec.UserData = aws.String("#!/bin/sh\nexec my-bootstrap --max-pods 58\n")
	its := resolve(t, network(), class, "m5.large", "p5.48xlarge", "t2.small", "m5.metal")
	for _, template := range launchTemplates(t, class, its) {
		require.Equal(t, *class.Spec.UserData, string(rawUserData(t, template)))
	}
}
