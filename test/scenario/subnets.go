// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	vpccni "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	corev1 "k8s.io/api/core/v1"
)

// Subnet of the VPC, with the pods whose addresses lie in it.
type Subnet struct {
	ID, Zone string
	CIDR     netip.Prefix
	// Name is the subnet's Name tag.
	Name string
	Pods int
}

// subnets lists all subnets by id.
func (s *Sandbox) subnets(ctx context.Context) (map[string]Subnet, error) {
	found := map[string]Subnet{}
	pages := ec2.NewDescribeSubnetsPaginator(s.EC2, &ec2.DescribeSubnetsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing subnets: %w", err)
		}
		for _, subnet := range page.Subnets {
			cidr, err := netip.ParsePrefix(aws.ToString(subnet.CidrBlock))
			if err != nil {
				return nil, err
			}
			entry := Subnet{ID: aws.ToString(subnet.SubnetId), Zone: aws.ToString(subnet.AvailabilityZone), CIDR: cidr}
			for _, tag := range subnet.Tags {
				if aws.ToString(tag.Key) == "Name" {
					entry.Name = aws.ToString(tag.Value)
				}
			}
			found[entry.ID] = entry
		}
	}
	return found, nil
}

// eniConfigSubnets maps the name of each ENIConfig, which is a zone's in the examples, to its subnet.
func (s *Sandbox) eniConfigSubnets(ctx context.Context) (map[string]string, error) {
	var configs vpccni.ENIConfigList
	if err := s.Kube.List(ctx, &configs); err != nil {
		return nil, fmt.Errorf("listing ENIConfigs: %w", err)
	}
	found := map[string]string{}
	for i := range configs.Items {
		found[configs.Items[i].Name] = configs.Items[i].Spec.Subnet
	}
	return found, nil
}

// PodsPerSubnet counts the workload's pods in each subnet of the VPC, by CIDR.
func (s *Sandbox) PodsPerSubnet(ctx context.Context, workload Workload) ([]Subnet, error) {
	byID, err := s.subnets(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := s.workloadPods(ctx, workload)
	if err != nil {
		return nil, err
	}
	var subnets []Subnet
	for _, subnet := range byID {
		for _, pod := range pods {
			if addr, err := podAddress(pod); err == nil && subnet.CIDR.Contains(addr) {
				subnet.Pods++
			}
		}
		subnets = append(subnets, subnet)
	}
	slices.SortFunc(subnets, func(a, b Subnet) int {
		return cmp.Or(a.CIDR.Addr().Compare(b.CIDR.Addr()), strings.Compare(a.ID, b.ID))
	})
	return subnets, nil
}

// CheckPods compares the workload's addresses with EC2: each is in a subnet of an ENIConfig, on a pod ENI of the pod's own
// node, and no two pods have the same.
func (s *Sandbox) CheckPods(ctx context.Context, workload Workload, nodes []Node) error {
	pods, err := s.workloadPods(ctx, workload)
	if err != nil {
		return err
	}
	if len(pods) != workload.Replicas {
		return fmt.Errorf("%d of %d pods run", len(pods), workload.Replicas)
	}
	byName := map[string]Node{}
	for _, node := range nodes {
		byName[node.Name] = node
	}
	owners := map[netip.Addr]string{}
	var problems []error
	for _, pod := range pods {
		addr, err := podAddress(pod)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if other, taken := owners[addr]; taken {
			problems = append(problems, fmt.Errorf("pods %s and %s both have %s", other, pod.Name, addr))
		}
		owners[addr] = pod.Name
		if _, ok := byName[pod.Spec.NodeName].podENI(addr); !ok {
			problems = append(problems, fmt.Errorf("pod %s has %s, which is on no pod ENI of its node %s", pod.Name, addr, pod.Spec.NodeName))
		}
	}
	return errors.Join(problems...)
}

func podAddress(pod *corev1.Pod) (netip.Addr, error) {
	addr, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("pod %s: %w", pod.Name, err)
	}
	return addr, nil
}
