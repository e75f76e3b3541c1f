// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// State of the cluster, before or after.
type State struct {
	Nodes []NodeCount `json:"nodes"`
	// Total of nodes, and what they cost on demand.
	Total      int     `json:"total"`
	USDPerHour float64 `json:"usdPerHour"`
	// Running pods, and those that have no node.
	Running int         `json:"podsRunning"`
	Waiting int         `json:"podsWaiting"`
	Subnets []SubnetUse `json:"subnets"`
	// Unplaced says of each workload with pods that have no node, why.
	Unplaced []Unplaced `json:"unplaced,omitempty"`
}

// NodeCount of like nodes.
type NodeCount struct {
	// NodePool, "" for nodes that Karpenter does not own.
	NodePool     string `json:"nodePool,omitempty"`
	InstanceType string `json:"instanceType"`
	Zone         string `json:"zone"`
	// PodNetwork that they are on.
	PodNetwork string `json:"podNetwork,omitempty"`
	Count      int    `json:"count"`
}

// SubnetUse of a subnet's addresses.
type SubnetUse struct {
	// ID that the cluster has for it; what the migration has made has none there, and is named by its CIDR.
	ID   string `json:"id,omitempty"`
	Zone string `json:"zone"`
	CIDR string `json:"cidr"`
	// Used addresses, without AWS's five; free ones; and those of the free that are set aside for the nodes that there are, at the most.
	Used     int `json:"used"`
	Free     int `json:"free"`
	SetAside int `json:"setAside"`
}

// Unplaced pods of a workload.
type Unplaced struct {
	Workload string              `json:"workload"`
	Pods     int                 `json:"pods"`
	Findings []diagnosis.Finding `json:"findings"`
}

func (t *theater) state(ctx context.Context, v *view) (State, error) {
	s := State{Total: len(v.nodes), Running: v.running(), Waiting: len(v.waiting())}
	counts := map[NodeCount]int{}
	for i := range v.nodes {
		labels := v.nodes[i].Labels
		counts[NodeCount{
			NodePool: labels[karpv1.NodePoolLabelKey], InstanceType: labels[corev1.LabelInstanceTypeStable], Zone: t.names.back(labels[corev1.LabelTopologyZone]),
			PodNetwork: labels[v1alpha1.LabelPodNetwork],
		}]++
		s.USDPerHour += t.Price(labels[corev1.LabelInstanceTypeStable])
	}
	for like, n := range counts {
		like.Count = n
		s.Nodes = append(s.Nodes, like)
	}
	slices.SortFunc(s.Nodes, func(a, b NodeCount) int {
		return cmp.Or(cmp.Compare(a.NodePool, b.NodePool), cmp.Compare(a.InstanceType, b.InstanceType), cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.PodNetwork, b.PodNetwork))
	})
	var err error
	if s.Subnets, err = t.use(ctx, v); err != nil {
		return s, err
	}
	s.Unplaced, err = t.unplaced(ctx, v)
	return s, err
}

// use of the VPC's subnets, as EC2 and the controller say.
func (t *theater) use(ctx context.Context, v *view) ([]SubnetUse, error) {
	aside := map[string]int{}
	for _, network := range v.networks {
		for _, zone := range network.Status.Zones {
			aside[zone.Subnet] += int(zone.CommittedPrefixes)<<(32-podnetwork.BlockBits) + int(zone.CommittedAddresses)
		}
	}
	var all []SubnetUse
	pages := ec2.NewDescribeSubnetsPaginator(t.ec2, &ec2.DescribeSubnetsInput{Filters: filter("vpc-id", t.vpc)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, d := range page.Subnets {
			cidr, err := netip.ParsePrefix(aws.ToString(d.CidrBlock))
			if err != nil {
				return nil, err
			}
			free, id := int(aws.ToInt32(d.AvailableIpAddressCount)), aws.ToString(d.SubnetId)
			use := SubnetUse{Zone: t.names.back(aws.ToString(d.AvailabilityZone)), CIDR: cidr.String(), Free: free, Used: 1<<(32-cidr.Bits()) - len(kept(cidr)) - free, SetAside: aside[id]}
			if was := t.names.back(id); was != id {
				use.ID = was
			}
			all = append(all, use)
		}
	}
	slices.SortFunc(all, func(a, b SubnetUse) int { return cmp.Or(cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.CIDR, b.CIDR)) })
	return all, nil
}

// mostWorkloads that a diagnosis is made for.
const mostWorkloads = 50

// unplaced pods by workload, each with the diagnosis of one of them.
func (t *theater) unplaced(ctx context.Context, v *view) ([]Unplaced, error) {
	groups := lo.GroupBy(v.waiting(), func(p corev1.Pod) string { return p.Namespace + "/" + workloadName(&p) })
	names := lo.Keys(groups)
	slices.Sort(names)
	var all []Unplaced
	for i, name := range names {
		pods := groups[name]
		found := Unplaced{Workload: name, Pods: len(pods)}
		if i < mostWorkloads {
			situation, err := diagnosis.Read(ctx, t.Kube, pods[0].Namespace, pods[0].Name)
			if err != nil {
				return nil, fmt.Errorf("why pod %s/%s has no node: %w", pods[0].Namespace, pods[0].Name, err)
			}
			found.Findings = diagnosis.Why(situation).Findings
			for i := range found.Findings {
				found.Findings[i].Message = t.names.back(found.Findings[i].Message)
			}
		}
		all = append(all, found)
	}
	return all, nil
}
