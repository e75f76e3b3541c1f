// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/provision"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

func init() { apis.Register(scheme.Scheme) }

var zones = []string{"us-east-1a", "us-east-1b", "us-east-1c"}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func types(names ...string) []plan.InstanceType {
	return lo.Map(names, func(name string, _ int) plan.InstanceType {
		info, ok := instancetypes.Info(name)
		if !ok {
			panic(name)
		}
		price, _ := instancetypes.Price(name)
		return plan.InstanceType{Info: info, Price: price}
	})
}

// good is a cluster of three zones that is ready for its pod network: three m5.large with 20 pods each.
func good() *facts {
	f := &facts{plan.Facts{
		Network: &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, From: plan.FromCluster, Cluster: "https://cluster", Region: "us-east-1",
		Installed:    plan.Installed{PodNetworks: true, ENIConfigs: true, Karpenter: true},
		ServiceCIDRs: []netip.Prefix{prefix("172.20.0.0/16")},
		VPC: &plan.VPC{
			ID: "vpc-1", Blocks: []netip.Prefix{prefix("10.0.0.0/21"), prefix("100.64.0.0/16")},
			RouteTables: []plan.RouteTable{{ID: "rtb-main", Main: true, Routes: []plan.Route{{Destination: prefix("0.0.0.0/0"), Target: "nat-1"}}}},
		},
		Subnets: map[string]podnetwork.Subnet{}, Snapshots: map[string]*podnetwork.Snapshot{}, SecurityGroups: map[string]string{},
		InstanceTypes: types("m5.large", "m4.large", "c7g.medium", "hpc6id.32xlarge"),
		Quotas:        plan.Quotas{ENIs: plan.Quota{Limit: 5000, Used: 100}, BlocksPerVPC: plan.Quota{Limit: 5, Used: 2}},
	}}
	class := ec2nodeclass.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: ec2nodeclass.EC2NodeClassSpec{AMIFamily: lo.ToPtr(ec2nodeclass.AMIFamilyAL2023)}}
	for i, zone := range zones {
		nodes, pods := "subnet-nodes-"+zone, "subnet-pods-"+zone
		class.Status.Subnets = append(class.Status.Subnets, ec2nodeclass.Subnet{ID: nodes, Zone: zone})
		f.addSubnet(nodes, zone, fmt.Sprintf("10.0.%d.0/24", i))
		f.addSubnet(pods, zone, fmt.Sprintf("100.64.%d.0/23", 2*i))
		f.ENIConfigs = append(f.ENIConfigs, eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: zone}, Spec: eniconfig.ENIConfigSpec{Subnet: pods}})
		f.Nodes = append(f.Nodes, plan.Node{Name: "node-" + zone, Zone: zone, InstanceType: "m5.large", Instance: "i-" + zone, NodePool: "default", MaxPods: 29, Pods: 20})
	}
	f.NodeClasses = []ec2nodeclass.EC2NodeClass{class}
	pool := karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	pool.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
	pool.Spec.Template.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"m5.large", "c7g.medium"}}}
	pool.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "10%"}}
	f.NodePools = []karpv1.NodePool{pool}
	return f
}

// facts are a plan.Facts with a few ways to change them.
type facts struct{ plan.Facts }

func (f *facts) addSubnet(id, zone, cidr string, taken ...string) {
	f.Subnets[id] = podnetwork.Subnet{ID: id, VPC: "vpc-1", Zone: zone, CIDR: prefix(cidr)}
	enis := lo.Map(taken, func(address string, _ int) podnetwork.ENI {
		return podnetwork.ENI{Addresses: []netip.Prefix{prefix(address)}}
	})
	f.Snapshots[id] = podnetwork.NewSnapshot(id, prefix(cidr), enis, podnetwork.Reservations{}, time.Time{})
}

func (f *facts) pool() *karpv1.NodePool { return &f.NodePools[0] }

// route of all subnets of the VPC.
func (f *facts) route(destination, target string) {
	f.VPC.RouteTables[0].Routes = append(f.VPC.RouteTables[0].Routes, plan.Route{Destination: prefix(destination), Target: target})
}

// transit gateway that the VPC is attached to, with routes.
func (f *facts) transit(routes ...plan.TransitRoute) {
	f.VPC.TransitGateways = []plan.TransitGateway{{ID: "tgw-1", Attachment: "tgw-attach-1", Routes: append(routes, plan.TransitRoute{Table: "tgw-rtb-1", Destination: prefix("0.0.0.0/0"), To: "vpc-9"})}}
}

// fragment the pod subnet of a zone: an address in each of its /28s.
func (f *facts) fragment(zone int) {
	f.addSubnet("subnet-pods-"+zones[zone], zones[zone], fmt.Sprintf("100.64.%d.0/24", 2*zone),
		lo.Times(16, func(i int) string { return fmt.Sprintf("100.64.%d.%d/32", 2*zone, 16*i+5) })...)
}

// require a label of the NodePool's nodes.
func (f *facts) require(label string, values ...string) {
	spec := &f.pool().Spec.Template.Spec
	spec.Requirements = append(spec.Requirements, karpv1.NodeSelectorRequirementWithMinValues{Key: label, Operator: corev1.NodeSelectorOpIn, Values: values})
}

func awsNode(env ...corev1.EnvVar) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "aws-node"}}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "aws-node", Env: env}}
	d.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	return d
}

func TestAClusterThatIsReadyHasNothingAgainstIt(t *testing.T) {
	report := plan.Make(good().Facts)
	require.Empty(t, report.Findings)
	require.False(t, report.Harm)
	require.Len(t, report.Zones, 3)
	// 110 pods are seven /28s on one ENI, whose own address may break up another.
	require.Equal(t, plan.Zone{
		Zone: "us-east-1a", Nodes: 1, Pods: 20, Need: plan.Amount{Prefixes: 8, Addresses: 113}, Replacement: plan.Amount{Prefixes: 8, Addresses: 113},
		Free: plan.Amount{Prefixes: 30, Addresses: 507}, More: 1,
	}, report.Zones[0])
	m5 := report.NodePools[0].InstanceTypes[1]
	require.Equal(t, "m5.large", m5.Name)
	require.Equal(t, []int{3, 29, 110, 7}, []int{m5.Nodes, m5.Now, m5.After, m5.Prefixes})
	require.InDelta(t, m5.USDPerHour*730/29, m5.USDPerPodNow, 0.001)
	require.InDelta(t, m5.USDPerHour*730/110, m5.USDPerPodAfter, 0.001)
	require.Equal(t, 1, report.NodePools[0].AtOnce, "10% of three")
	require.Equal(t, []plan.Limit{
		{Name: "network interfaces in the Region", Limit: 5000, Used: 100, After: 105}, {Name: "IPv4 CIDR blocks of the VPC", Limit: 5, Used: 2, After: 2},
	}, report.Quotas)
}

func TestFindings(t *testing.T) {
	for name, test := range map[string]struct {
		change   func(*facts)
		severity plan.Severity
		reason   string
		text     string
	}{
		"a peer has the pods' range": {
			func(f *facts) {
				f.VPC.Peerings = []plan.Peering{{ID: "pcx-1", VPC: "vpc-2", CIDRs: []netip.Prefix{prefix("100.64.0.0/10")}}}
			},
			plan.Harm, plan.ReasonCIDROverlapsPeer, "100.64.0.0/23 overlaps 100.64.0.0/10 of vpc-2, with which pcx-1 peers",
		},
		"a transit gateway has a part of it": {func(f *facts) { f.route("100.64.1.128/25", "tgw-1") }, plan.Harm, plan.ReasonCIDROverlapsRoute, "sends to transit gateway tgw-1"},
		"a transit gateway has more than it": {func(f *facts) { f.route("100.64.0.0/10", "tgw-1") }, plan.Warning, plan.ReasonCIDROverlapsRoute, "100.64.0.0/10"},
		"Services have it":                   {func(f *facts) { f.ServiceCIDRs = []netip.Prefix{prefix("100.64.0.0/16")} }, plan.Harm, plan.ReasonCIDROverlapsServices, "Services"},
		"a VPC behind a transit gateway has it": {
			func(f *facts) {
				f.transit(plan.TransitRoute{Table: "tgw-rtb-1", Destination: prefix("100.64.0.0/16"), To: "vpc-3"})
			},
			plan.Warning, plan.ReasonCIDROverlapsTransit, "100.64.0.0/23 overlaps 100.64.0.0/16, which transit gateway tgw-1 routes to VPC vpc-3 (tgw-rtb-1)",
		},
		"a VPC behind a transit gateway has it, and pods send with their own address": {
			func(f *facts) {
				f.transit(plan.TransitRoute{Table: "tgw-rtb-1", Destination: prefix("100.64.0.0/16"), To: "vpc-3"})
				f.Network.Spec.SNAT.Policy = v1alpha1.SNATNone
			},
			plan.Harm, plan.ReasonCIDROverlapsTransit, "VPC vpc-3",
		},
		"a VPC propagates it to where this one does": {
			func(f *facts) {
				f.VPC.TransitGateways = []plan.TransitGateway{{ID: "tgw-1", Announced: []plan.TransitRoute{{Table: "tgw-rtb-2", Destination: prefix("100.64.2.0/24"), To: "vpc-3", Propagated: true}}}}
			},
			plan.Warning, plan.ReasonCIDROverlapsTransit, "100.64.2.0/23 would be propagated to tgw-rtb-2 of transit gateway tgw-1, where VPC vpc-3 has 100.64.2.0/24 already",
		},
		"no NAT without SNAT": {
			func(f *facts) { f.VPC.RouteTables[0].Routes, f.Network.Spec.SNAT.Policy = nil, v1alpha1.SNATNone }, plan.Harm, plan.ReasonNoRouteToNAT, "has no default route in rtb-main",
		},
		"an internet gateway without SNAT": {
			func(f *facts) {
				f.VPC.RouteTables[0].Routes[0].Target, f.Network.Spec.SNAT.Policy = "igw-1", v1alpha1.SNATNone
			}, plan.Harm, plan.ReasonNoRouteToNAT, "internet gateway igw-1",
		},
		"a NAT gateway that is gone": {
			func(f *facts) {
				f.VPC.RouteTables[0].Routes[0].Blackhole, f.Network.Spec.SNAT.Policy = true, v1alpha1.SNATNone
			}, plan.Harm, plan.ReasonNoRouteToNAT, "is gone",
		},
		"a transit gateway for all": {
			func(f *facts) {
				f.VPC.RouteTables[0].Routes[0].Target, f.Network.Spec.SNAT.Policy = "tgw-1", v1alpha1.SNATNone
			}, plan.Warning, plan.ReasonNoRouteToNAT, "to no NAT gateway",
		},
		"nodes without the internet": {func(f *facts) { f.VPC.RouteTables[0].Routes = nil }, plan.Info, plan.ReasonNoDefaultRoute, "subnet-nodes-us-east-1a"},
		"no type with a pod ENI": {
			func(f *facts) {
				f.pool().Spec.Template.Spec.Requirements[0].Values = []string{"hpc6id.32xlarge"}
				f.Nodes = nil
			}, plan.Harm, plan.ReasonNoInstanceType, "could launch nothing",
		},
		"a node of a type without a pod ENI": {
			func(f *facts) {
				f.pool().Spec.Template.Spec.Requirements[0].Values = []string{"hpc6id.32xlarge", "m5.large"}
				f.Nodes[0].InstanceType = "hpc6id.32xlarge"
			}, plan.Warning, plan.ReasonTypesNotOffered, "hpc6id.32xlarge",
		},
		"a type that loses pods": {
			func(f *facts) {
				f.pool().Spec.Template.Spec.Requirements[0].Values = []string{"m4.large", "m5.large"}
				f.Nodes[0].InstanceType = "m4.large"
			},
			plan.Warning, plan.ReasonFewerPods, "m4.large 11 instead of 20",
		},
		"a zone without an ENIConfig": {func(f *facts) { f.ENIConfigs = f.ENIConfigs[1:] }, plan.Warning, podnetwork.ReasonENIConfigMissing, "us-east-1a"},
		"no ENIConfig":                {func(f *facts) { f.ENIConfigs = nil }, plan.Harm, podnetwork.ReasonENIConfigMissing, "us-east-1a"},
		"an ENIConfig of another zone": {
			func(f *facts) { f.ENIConfigs[0].Spec.Subnet = f.ENIConfigs[1].Spec.Subnet }, plan.Warning, podnetwork.ReasonSubnetInOtherZone, "us-east-1b",
		},
		"more nodes than room": {
			func(f *facts) {
				f.addSubnet("subnet-pods-us-east-1a", "us-east-1a", "100.64.0.0/24")
				f.Nodes = append(f.Nodes, f.Nodes[0], f.Nodes[0])
				f.Nodes[3].Instance, f.Nodes[4].Instance = "i-3", "i-4"
			},
			plan.Harm, plan.ReasonInsufficientCapacity, "2 of 3 nodes would find no room in the pod subnets (24 /28s needed at the most, 14 free; 251 addresses free)",
		},
		"no room to replace": {
			func(f *facts) { f.pool().Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "100%"}} }, plan.Warning, plan.ReasonNoRoomToReplace, "1 of the 3 replacements",
		},
		"only single addresses for a zone's nodes": {
			func(f *facts) { f.fragment(0) }, plan.Warning, plan.ReasonSingleAddresses, "1 of 1 node would find no /28s, and be replaced by 2 nodes with single addresses (40 addresses needed at the most, 235 free)",
		},
		"single addresses that a NodePool does not allow": {
			func(f *facts) {
				f.fragment(0)
				f.require(v1alpha1.LabelMaxPods, "110")
			}, plan.Harm, plan.ReasonInsufficientCapacity, "1 of 1 node would find no room",
		},
		"single addresses that aws-node cannot serve beside prefixes": {
			func(f *facts) {
				f.fragment(0)
				f.Network.Spec.Agent = v1alpha1.AgentVPCCNI
			}, plan.Harm, plan.ReasonInsufficientCapacity, "1 of 1 node would find no room",
		},
		"single addresses for too many pods": {
			func(f *facts) {
				f.fragment(0)
				f.Nodes[0].Pods = 250
			}, plan.Harm, plan.ReasonInsufficientCapacity, "1 of 1 node would find no room",
		},
		"single addresses for the replacements": {
			func(f *facts) {
				f.addSubnet("subnet-pods-us-east-1a", "us-east-1a", "100.64.0.0/23")
				f.Snapshots["subnet-pods-us-east-1a"] = podnetwork.NewSnapshot("subnet-pods-us-east-1a", prefix("100.64.0.0/23"), nil, podnetwork.Reservations{Prefix: []netip.Prefix{prefix("100.64.1.0/25")}}, time.Time{})
			}, plan.Warning, plan.ReasonSingleAddresses, "1 of the 1 replacement",
		},
		"a fragmented subnet": {
			func(f *facts) {
				f.addSubnet("subnet-pods-us-east-1a", "us-east-1a", "100.64.0.0/24", lo.Times(8, func(i int) string { return fmt.Sprintf("100.64.0.%d/32", 32*i+20) })...)
			}, plan.Warning, plan.ReasonFragmented, "100.64.0.0/24, us-east-1a",
		},
		"node subnets without an address": {
			func(f *facts) {
				for i, zone := range zones {
					f.addSubnet("subnet-nodes-"+zone, zone, fmt.Sprintf("10.0.%d.0/28", i), lo.Times(11, func(k int) string { return fmt.Sprintf("10.0.%d.%d/32", i, 4+k) })...)
				}
			}, plan.Harm, plan.ReasonNodeSubnetFull, "no node subnet has a free address",
		},
		"one node subnet without": {
			func(f *facts) {
				f.addSubnet("subnet-nodes-us-east-1a", "us-east-1a", "10.0.0.0/28", lo.Times(11, func(k int) string { return fmt.Sprintf("10.0.0.%d/32", 4+k) })...)
			}, plan.Warning, plan.ReasonNodeSubnetFull, "us-east-1a",
		},
		"too many ENIs":                       {func(f *facts) { f.Quotas.ENIs.Limit = 104 }, plan.Harm, plan.ReasonENIQuota, "105 would be needed, and the quota is 104"},
		"too many ENIs of an assumed quota":   {func(f *facts) { f.Quotas.ENIs.Limit, f.Quotas.ENIs.Assumed = 104, true }, plan.Warning, plan.ReasonENIQuota, "AWS's default"},
		"nearly too many ENIs":                {func(f *facts) { f.Quotas.ENIs.Limit = 110 }, plan.Info, plan.ReasonENIQuota, "105"},
		"an IPv6 cluster":                     {func(f *facts) { f.IPv6 = true }, plan.Harm, podnetwork.ReasonIPv6Cluster, "IPv6"},
		"aws-node on the nodes":               {func(f *facts) { f.VPCCNI = awsNode() }, plan.Harm, plan.ReasonVPCCNIOnNodes, "of 1 NodePool, default"},
		"aws-node that is to serve is absent": {func(f *facts) { f.Network.Spec.Agent = v1alpha1.AgentVPCCNI }, plan.Harm, plan.ReasonVPCCNIMissing, "no DaemonSet"},
		"aws-node that is told otherwise": {
			func(f *facts) { f.Network.Spec.Agent, f.VPCCNI = v1alpha1.AgentVPCCNI, awsNode() }, plan.Harm, plan.ReasonVPCCNISettings, "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG",
		},
		"aws-node that warms more": {
			func(f *facts) {
				f.Network.Spec.Agent = v1alpha1.AgentVPCCNI
				f.VPCCNI = awsNode(corev1.EnvVar{Name: "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", Value: "true"}, corev1.EnvVar{Name: "ENI_CONFIG_LABEL_DEF", Value: "topology.kubernetes.io/zone"},
					corev1.EnvVar{Name: "ENABLE_PREFIX_DELEGATION", Value: "true"}, corev1.EnvVar{Name: "WARM_IP_TARGET", Value: "40"})
			}, plan.Warning, plan.ReasonVPCCNISettings, "WARM_IP_TARGET",
		},
		"Fargate": {func(f *facts) { f.Nodes = append(f.Nodes, plan.Node{Name: "fargate", Fargate: true, Pods: 1}) }, plan.Info, plan.ReasonFargate, "1 node on Fargate, with 1 pod"},
		"a Fargate profile": {
			func(f *facts) {
				f.FargateProfiles = []plan.FargateProfile{{Name: "batch", Subnets: []string{"subnet-nodes-us-east-1a"}, Selectors: []plan.FargateSelector{{Namespace: "batch", Labels: map[string]string{"a": "b"}}, {Namespace: "jobs-*"}}}}
			}, plan.Info, plan.ReasonFargate, "the cluster has the Fargate profiles batch (namespace batch with a=b; namespace jobs-*)",
		},
		"a Fargate profile in a pod subnet": {
			func(f *facts) {
				f.FargateProfiles = []plan.FargateProfile{{Name: "batch", Subnets: []string{"subnet-pods-us-east-1a"}, Selectors: []plan.FargateSelector{{Namespace: "batch"}}}}
			}, plan.Warning, plan.ReasonFargateInPodSubnet, "Fargate profile batch puts its pods into pod subnets: subnet-pods-us-east-1a",
		},
		"a Fargate profile that selects pods on nodes": {
			func(f *facts) {
				f.FargateProfiles = []plan.FargateProfile{{Name: "batch", Selectors: []plan.FargateSelector{{Namespace: "jobs-?", Labels: map[string]string{"tier/*": "b*"}}}}}
				f.Movable = []plan.PodKind{
					{Namespace: "jobs-1", Labels: map[string]string{"tier/x": "batch", "more": "too"}, Pods: 3}, {Namespace: "jobs-1", Labels: map[string]string{"tier/x": "web"}, Pods: 5},
					{Namespace: "jobs-10", Labels: map[string]string{"tier/x": "batch"}, Pods: 7}, {Namespace: "jobs-1", Pods: 11},
				}
			}, plan.Warning, plan.ReasonFargateTakes, "3 pods of jobs-1, on nodes today, would come back on Fargate: profile batch selects them",
		},
		"rights that are missing": {
			func(f *facts) {
				f.Unread = []plan.Unread{{What: "Nodes", Why: "no", Denied: "list nodes"}, {What: "security groups", Why: "no", Denied: "ec2:DescribeSecurityGroups"}, {What: "prices", Why: "away"}}
				f.ENIConfigs[0].Spec.SecurityGroups = []string{"sg-1"}
			}, plan.Warning, plan.ReasonPermissionMissing, "not permitted: ec2:DescribeSecurityGroups, list nodes",
		},
		"Windows": {
			func(f *facts) {
				f.NodeClasses = append(f.NodeClasses, ec2nodeclass.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: "win"}, Spec: ec2nodeclass.EC2NodeClassSpec{AMIFamily: lo.ToPtr(ec2nodeclass.AMIFamilyWindows2022)}})
			}, plan.Info, plan.ReasonWindows, "[win]",
		},
		"a node group": {
			func(f *facts) { f.Nodes[0].NodePool = "" }, plan.Info, plan.ReasonUnmanagedNodes, "1 node is not Karpenter's",
		},
		"two PodNetworks": {
			func(f *facts) { f.Others = []v1alpha1.PodNetwork{{ObjectMeta: metav1.ObjectMeta{Name: "other"}}} }, plan.Harm, plan.ReasonNodeClassConflict, "default and other",
		},
		"a pool of another node class": {
			func(f *facts) {
				f.Network.Spec.NodeClassSelector = metav1.LabelSelector{MatchLabels: map[string]string{"pods": "apart"}}
			}, plan.Info, plan.ReasonOtherNodePools, "default",
		},
		"a CIDR that AWS refuses": {
			func(f *facts) { f.Network.Spec.Provision = &v1alpha1.Provision{CIDRs: []string{"192.168.0.0/16"}} }, plan.Harm, "CIDRRestricted", "192.168.0.0/16",
		},
		"more blocks than the quota": {
			func(f *facts) {
				f.Network.Spec.Provision = &v1alpha1.Provision{CIDRs: []string{"100.80.0.0/16"}}
				f.Network.Spec.ENIConfigs.NodeLabel = v1alpha1.LabelENIConfig
				f.Quotas.BlocksPerVPC.Limit = 2
			}, plan.Harm, plan.ReasonCIDRQuota, "3 would be needed, and the quota is 2",
		},
		"nothing is installed": {
			func(f *facts) {
				f.Installed, f.NodePools, f.NodeClasses = plan.Installed{}, nil, nil
			}, plan.Warning, plan.ReasonKarpenterMissing, "no Karpenter",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := good()
			f.VPC.Provision.Blocks = nil
			for i, block := range f.VPC.Blocks {
				f.VPC.Provision.Blocks = append(f.VPC.Provision.Blocks, provision.Block{ID: fmt.Sprint(i), CIDR: block, State: provision.Associated})
			}
			f.VPC.Provision.RouteTables = []provision.RouteTable{{ID: "rtb-main", Main: true}}
			test.change(f)
			report := plan.Make(f.Facts)
			found, ok := lo.Find(report.Findings, func(found plan.Finding) bool { return found.Reason == test.reason && found.Severity == test.severity })
			require.True(t, ok, "%+v", report.Findings)
			require.Contains(t, found.What, test.text)
			require.NotEmpty(t, found.Why)
			require.Equal(t, report.Harm, lo.ContainsBy(report.Findings, func(f plan.Finding) bool { return f.Severity == plan.Harm }))
			for i := range report.Findings[1:] {
				require.LessOrEqual(t, strings.Index("harm warning info", string(report.Findings[i].Severity)), strings.Index("harm warning info", string(report.Findings[i+1].Severity)), "the worst first")
			}
		})
	}
}

func TestAProposalKeepsOffWhatATransitGatewayRoutes(t *testing.T) {
	f := good()
	f.From, f.ENIConfigs = plan.FromNobody, nil
	f.VPC.Blocks = f.VPC.Blocks[:1]
	f.transit(plan.TransitRoute{Table: "tgw-rtb-1", Destination: prefix("100.64.0.0/16"), To: "vpc-3"})
	f.VPC.TransitGateways[0].Announced = []plan.TransitRoute{{Table: "tgw-rtb-2", Destination: prefix("100.65.64.0/18"), To: "vpc-4", Propagated: true}}
	require.Equal(t, []string{"100.66.0.0/16"}, plan.Make(f.Facts).Network.Spec.Provision.CIDRs)
}

// What could not be read is not taken for missing.
func TestNothingIsSaidOfWhatCouldNotBeRead(t *testing.T) {
	for what, change := range map[string]func(*facts){
		"ENIConfigs":      func(f *facts) { f.ENIConfigs = nil },
		"EC2NodeClasses":  func(f *facts) { f.NodeClasses, f.NodePools = nil, nil },
		"security groups": func(f *facts) { f.ENIConfigs[0].Spec.SecurityGroups = []string{"sg-1"} },
		"route tables": func(f *facts) {
			f.VPC.RouteTables, f.ENIConfigs = nil, nil
			f.VPC.Provision.Blocks = []provision.Block{{ID: "0", CIDR: prefix("10.0.0.0/21"), State: provision.Associated}}
			f.Network.Spec.Provision = &v1alpha1.Provision{CIDRs: []string{"100.80.0.0/16"}, RouteTables: v1alpha1.RouteTablesListed, RouteTableIDs: map[string]v1alpha1.RouteTableID{"*": "rtb-pods"}}
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := good()
			change(f)
			require.True(t, plan.Make(f.Facts).Harm || lo.ContainsBy(plan.Make(f.Facts).Findings, func(f plan.Finding) bool { return f.Severity == plan.Warning }), "it says so of what was read")
			f.Unread = []plan.Unread{{What: what, Why: "no", Denied: "some:Action"}}
			report := plan.Make(f.Facts)
			require.Equal(t, []string{plan.ReasonPermissionMissing}, lo.FilterMap(report.Findings, func(f plan.Finding, _ int) (string, bool) { return f.Reason, f.Severity != plan.Info }), "%+v", report.Findings)
		})
	}
}

func TestWithoutAnythingAPlanProposesPodSubnets(t *testing.T) {
	f := good()
	f.From, f.ENIConfigs = plan.FromNobody, nil
	f.VPC.Blocks = f.VPC.Blocks[:1]
	f.VPC.Provision = provision.VPC{ID: "vpc-1", Blocks: []provision.Block{{ID: "0", CIDR: f.VPC.Blocks[0], State: provision.Associated}}, RouteTables: []provision.RouteTable{{ID: "rtb-main", Main: true}}}
	f.VPC.Peerings = []plan.Peering{{ID: "pcx-1", VPC: "vpc-2", CIDRs: []netip.Prefix{prefix("100.64.128.0/17")}}}
	report := plan.Make(f.Facts)
	require.Equal(t, []string{"100.65.0.0/16"}, report.Network.Spec.Provision.CIDRs, "the peer has a part of 100.64.0.0/16")
	require.Nil(t, f.Network.Spec.Provision, "the facts are left as they were")
	require.False(t, report.Harm, "%+v", report.Findings)
	planned := lo.Filter(report.Subnets, func(s plan.Subnet, _ int) bool { return s.Planned })
	require.Equal(t, []string{"us-east-1a 100.65.0.0/19", "us-east-1b 100.65.32.0/19", "us-east-1c 100.65.64.0/19"},
		lo.Map(planned, func(s plan.Subnet, _ int) string { return s.ENIConfig + " " + s.CIDR }))
	require.Equal(t, 383, planned[0].FreePrefixes, "three quarters are reserved for prefixes, and AWS keeps the last address")
	require.Equal(t, plan.Amount{Prefixes: 7, Addresses: 1}, report.Zones[0].Need, "a reservation keeps the ENI's own address apart")
	require.Equal(t, 3, report.Quotas[1].After, "one more")
}
