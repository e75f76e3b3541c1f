// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Node is a node that Karpenter launched, as the Kubernetes API and EC2 know it.
type Node struct {
	Name, InstanceID, Type, Zone string
	// Address is the primary address of the primary ENI.
	Address netip.Addr
	// Primary is the ENI at device index 0, PodENIs are all others.
	Primary ENI
	PodENIs []ENI
	// MaxPods and Allocatable are capacity and allocatable pods of the Node object.
	MaxPods, Allocatable int
	// ReservedMemory is what allocatable memory lacks of the capacity, in bytes.
	ReservedMemory int64
	// UserDataMaxPods is decoded from the user data that EC2 holds for the instance.
	UserDataMaxPods int
	// Labels of the Node object.
	Labels map[string]string
}

// ENI is an attached interface.
type ENI struct {
	ID, Subnet string
	Address    netip.Addr
	// Secondaries and Prefixes are addresses beyond the primary one.
	Secondaries []netip.Addr
	Prefixes    []netip.Prefix
}

// Prefixes counts the /28s on the node.
func (n Node) Prefixes() int {
	count := len(n.Primary.Prefixes)
	for _, eni := range n.PodENIs {
		count += len(eni.Prefixes)
	}
	return count
}

// podENI returns the pod ENI that holds an address.
func (n Node) podENI(addr netip.Addr) (ENI, bool) {
	for _, eni := range n.PodENIs {
		if slices.Contains(eni.Secondaries, addr) {
			return eni, true
		}
		for _, prefix := range eni.Prefixes {
			if prefix.Contains(addr) {
				return eni, true
			}
		}
	}
	return ENI{}, false
}

// Nodes lists the nodes that Karpenter launched and does not end just now, by zone and name.
func (s *Sandbox) Nodes(ctx context.Context) ([]Node, error) {
	var list corev1.NodeList
	if err := s.Kube.List(ctx, &list, client.HasLabels{karpenter.NodePoolLabelKey}); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	inventory, err := s.inventory(ctx)
	if err != nil {
		return nil, err
	}
	var nodes []Node
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp != nil {
			continue
		}
		node, err := s.node(ctx, &list.Items[i], inventory)
		if err != nil && s.goneSince(ctx, &list.Items[i]) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", list.Items[i].Name, err)
		}
		nodes = append(nodes, node)
	}
	slices.SortFunc(nodes, func(a, b Node) int {
		return cmp.Or(strings.Compare(a.Zone, b.Zone), strings.Compare(a.Name, b.Name))
	})
	return nodes, nil
}

// goneSince tells whether a node has been deleted since it was listed: its instance is described a moment later.
func (s *Sandbox) goneSince(ctx context.Context, listed *corev1.Node) bool {
	var now corev1.Node
	err := s.Kube.Get(ctx, client.ObjectKeyFromObject(listed), &now)
	return apierrors.IsNotFound(err) || err == nil && now.DeletionTimestamp != nil
}

func (s *Sandbox) node(ctx context.Context, object *corev1.Node, inventory Inventory) (Node, error) {
	id := path.Base(object.Spec.ProviderID)
	instance, ok := inventory.Instances[id]
	if !ok {
		return Node{}, fmt.Errorf("EC2 knows no living instance %q", id)
	}
	node := Node{
		Name: object.Name, InstanceID: id, Type: string(instance.InstanceType), Zone: aws.ToString(instance.Placement.AvailabilityZone),
		MaxPods: int(object.Status.Capacity.Pods().Value()), Allocatable: int(object.Status.Allocatable.Pods().Value()),
		ReservedMemory: object.Status.Capacity.Memory().Value() - object.Status.Allocatable.Memory().Value(),
		Labels:         object.Labels,
	}
	var err error
	if node.Address, err = netip.ParseAddr(aws.ToString(instance.PrivateIpAddress)); err != nil {
		return Node{}, err
	}
	for _, i := range inventory.Interfaces {
		if i.Attachment == nil || aws.ToString(i.Attachment.InstanceId) != id {
			continue
		}
		eni, err := newENI(i)
		if err != nil {
			return Node{}, err
		}
		if aws.ToInt32(i.Attachment.DeviceIndex) == 0 {
			node.Primary = eni
		} else {
			node.PodENIs = append(node.PodENIs, eni)
		}
	}
	slices.SortFunc(node.PodENIs, func(a, b ENI) int { return strings.Compare(a.ID, b.ID) })
	node.UserDataMaxPods, err = s.userDataMaxPods(ctx, id)
	return node, err
}

func newENI(i ec2types.NetworkInterface) (ENI, error) {
	eni := ENI{ID: aws.ToString(i.NetworkInterfaceId), Subnet: aws.ToString(i.SubnetId)}
	for _, private := range i.PrivateIpAddresses {
		addr, err := netip.ParseAddr(aws.ToString(private.PrivateIpAddress))
		if err != nil {
			return ENI{}, err
		}
		if aws.ToBool(private.Primary) {
			eni.Address = addr
		} else {
			eni.Secondaries = append(eni.Secondaries, addr)
		}
	}
	for _, delegated := range i.Ipv4Prefixes {
		prefix, err := netip.ParsePrefix(aws.ToString(delegated.Ipv4Prefix))
		if err != nil {
			return ENI{}, err
		}
		eni.Prefixes = append(eni.Prefixes, prefix)
	}
	return eni, nil
}

// userDataMaxPods decodes the max-pods that EC2 hands to the instance's machine.
func (s *Sandbox) userDataMaxPods(ctx context.Context, instanceID string) (int, error) {
	out, err := s.EC2.DescribeInstanceAttribute(ctx, &ec2.DescribeInstanceAttributeInput{
		InstanceId: &instanceID, Attribute: ec2types.InstanceAttributeNameUserData,
	})
	if err != nil {
		return 0, fmt.Errorf("reading the user data of %s: %w", instanceID, err)
	}
	if out.UserData == nil {
		return 0, fmt.Errorf("%s has no user data", instanceID)
	}
	return MaxPodsOfUserData(aws.ToString(out.UserData.Value))
}

// CalculatedMaxPods asks the command-line tool, which computes offline, for the max-pods of an instance type, with
// prefixes or with single addresses.
func (s *Sandbox) CalculatedMaxPods(ctx context.Context, instanceType string, prefixes bool) (int, error) {
	out, err := s.dovetail(ctx, "max-pods", "--instance-type", instanceType, "--custom-networking", "--prefix-delegation="+strconv.FormatBool(prefixes))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

// CheckNodes compares each node's addresses and max-pods with what custom networking with prefixes promises.
func (s *Sandbox) CheckNodes(ctx context.Context, nodes []Node) error {
	if len(nodes) == 0 {
		return errors.New("no node of Karpenter's")
	}
	subnets, err := s.subnets(ctx)
	if err != nil {
		return err
	}
	eniConfigs, err := s.eniConfigSubnets(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, node := range nodes {
		object := func(format string, args ...any) {
			problems = append(problems, fmt.Errorf("node %s (%s): %s", node.Name, node.Type, fmt.Sprintf(format, args...)))
		}
		if len(node.Primary.Secondaries)+len(node.Primary.Prefixes) > 0 {
			object("its primary ENI carries more than the node's own address: %v %v", node.Primary.Secondaries, node.Primary.Prefixes)
		}
		if len(node.PodENIs) == 0 || node.Prefixes() == 0 {
			object("it has %d pod ENIs and %d prefixes", len(node.PodENIs), node.Prefixes())
		}
		for _, eni := range node.PodENIs {
			if wanted := eniConfigs[node.Zone]; eni.Subnet != wanted {
				object("pod ENI %s is in subnet %s; ENIConfig %s says %s", eni.ID, eni.Subnet, node.Zone, wanted)
			}
			for _, prefix := range eni.Prefixes {
				if !subnets[eni.Subnet].CIDR.Contains(prefix.Addr()) {
					object("prefix %s is outside subnet %s", prefix, eni.Subnet)
				}
			}
		}
		calculated, err := s.CalculatedMaxPods(ctx, node.Type, true)
		if err != nil {
			return err
		}
		if node.MaxPods != calculated || node.Allocatable != calculated || node.UserDataMaxPods != calculated {
			object("max-pods is %d in the Node's capacity, %d allocatable, %d in the user data; calculated %d",
				node.MaxPods, node.Allocatable, node.UserDataMaxPods, calculated)
		}
		if label := node.Labels[v1alpha1.LabelMaxPods]; label != strconv.Itoa(calculated) {
			object("label %s is %q, calculated %d", v1alpha1.LabelMaxPods, label, calculated)
		}
	}
	return errors.Join(problems...)
}
