// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// Inventory is what costs money or addresses, by id or name: what EC2 and the cluster say, not what anyone believes.
type Inventory struct {
	Instances  map[string]ec2types.Instance // terminated ones are not in it
	Interfaces map[string]ec2types.NetworkInterface
	Nodes      map[string]bool
	NodeClaims map[string]bool
}

func (s *Sandbox) inventory(ctx context.Context) (Inventory, error) {
	found := Inventory{
		Instances:  map[string]ec2types.Instance{},
		Interfaces: map[string]ec2types.NetworkInterface{},
		Nodes:      map[string]bool{},
		NodeClaims: map[string]bool{},
	}
	instances := ec2.NewDescribeInstancesPaginator(s.EC2, &ec2.DescribeInstancesInput{})
	for instances.HasMorePages() {
		page, err := instances.NextPage(ctx)
		if err != nil {
			return found, fmt.Errorf("listing instances: %w", err)
		}
		for _, reservation := range page.Reservations {
			for _, instance := range reservation.Instances {
				if instance.State.Name != ec2types.InstanceStateNameTerminated {
					found.Instances[aws.ToString(instance.InstanceId)] = instance
				}
			}
		}
	}
	interfaces := ec2.NewDescribeNetworkInterfacesPaginator(s.EC2, &ec2.DescribeNetworkInterfacesInput{})
	for interfaces.HasMorePages() {
		page, err := interfaces.NextPage(ctx)
		if err != nil {
			return found, fmt.Errorf("listing interfaces: %w", err)
		}
		for _, i := range page.NetworkInterfaces {
			found.Interfaces[aws.ToString(i.NetworkInterfaceId)] = i
		}
	}
	var nodes corev1.NodeList
	if err := s.Kube.List(ctx, &nodes); err != nil {
		return found, fmt.Errorf("listing nodes: %w", err)
	}
	for i := range nodes.Items {
		found.Nodes[nodes.Items[i].Name] = true
	}
	var claims karpenter.NodeClaimList
	if err := s.Kube.List(ctx, &claims); err != nil && !meta.IsNoMatchError(err) { // before Karpenter's resources are installed
		return found, fmt.Errorf("listing node claims: %w", err)
	}
	for i := range claims.Items {
		found.NodeClaims[claims.Items[i].Name] = true
	}
	return found, nil
}

// Leaks are counted against what existed when the sandbox was up.
type Leaks struct {
	Nodes, NodeClaims, Instances, Interfaces []string
}

// None is true when nothing is left over.
func (l Leaks) None() bool {
	return len(l.Nodes)+len(l.NodeClaims)+len(l.Instances)+len(l.Interfaces) == 0
}

func (l Leaks) String() string {
	return fmt.Sprintf("nodes [%s], node claims [%s], instances [%s], interfaces [%s]", strings.Join(l.Nodes, " "),
		strings.Join(l.NodeClaims, " "), strings.Join(l.Instances, " "), strings.Join(l.Interfaces, " "))
}

// since lists what exists now and did not before.
func (i Inventory) since(before Inventory) Leaks {
	return Leaks{
		Nodes:      added(before.Nodes, i.Nodes),
		NodeClaims: added(before.NodeClaims, i.NodeClaims),
		Instances:  added(before.Instances, i.Instances),
		Interfaces: added(before.Interfaces, i.Interfaces),
	}
}

func added[V any](before, now map[string]V) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(now)), func(key string) bool {
		_, ok := before[key]
		return ok
	})
}
