// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/pkg/vpccni"
)

// page of a list: 20,000 pods in one answer would take the API server's memory, and ours.
const page = 1000

// computeType is EKS's label; its value on Fargate nodes is fargate.
const computeType = "eks.amazonaws.com/compute-type"

func (s *surveyor) readCluster(ctx context.Context) error {
	for _, read := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"PodNetworks", s.podNetworks}, {"EC2NodeClasses and NodePools", s.karpenter}, {"ENIConfigs", s.eniConfigs},
		{"the address family of Service kubernetes", s.family}, {"the range of Services (ServiceCIDRs)", s.services}, {"DaemonSet " + vpccni.DaemonSet, s.vpcCNI},
		{"Nodes", s.nodes}, {"Pods", s.pods},
	} {
		switch err := read.do(ctx); {
		case err == nil:
		case unreachable(err) || ctx.Err() != nil || apierrors.IsUnauthorized(err):
			return err
		default:
			s.unread(read.what, err)
		}
	}
	return nil
}

func (s *surveyor) podNetworks(ctx context.Context) error {
	list := &v1alpha1.PodNetworkList{}
	installed, err := cli.List(ctx, s.Cluster, list)
	s.facts.Installed.PodNetworks, s.found = installed, list.Items
	return err
}

func (s *surveyor) karpenter(ctx context.Context) error {
	classes, pools := &ec2nodeclass.EC2NodeClassList{}, &karpv1.NodePoolList{}
	known, err := cli.List(ctx, s.Cluster, classes)
	if err != nil {
		s.facts.Installed.Karpenter = true // it may well be
		return err
	}
	poolsKnown, err := cli.List(ctx, s.Cluster, pools)
	s.facts.Installed.Karpenter = known && (poolsKnown || err != nil)
	s.facts.NodeClasses, s.facts.NodePools = classes.Items, pools.Items
	return err
}

func (s *surveyor) eniConfigs(ctx context.Context) error {
	list := &eniconfig.ENIConfigList{}
	installed, err := cli.List(ctx, s.Cluster, list)
	declared := lo.SliceToMap(s.Declared.ENIConfigs, func(c eniconfig.ENIConfig) (string, bool) { return c.Name, true })
	kept := lo.Reject(list.Items, func(c eniconfig.ENIConfig, _ int) bool { return declared[c.Name] })
	s.facts.Installed.ENIConfigs, s.facts.ENIConfigs = installed, append(kept, s.Declared.ENIConfigs...)
	return err
}

// family of addresses: the Service that every cluster has shows it.
func (s *surveyor) family(ctx context.Context) error {
	service := &corev1.Service{}
	if err := s.Cluster.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}, service); err != nil {
		return cli.Explain(err)
	}
	s.facts.IPv6 = slices.Equal(service.Spec.IPFamilies, []corev1.IPFamily{corev1.IPv6Protocol})
	return nil
}

func (s *surveyor) services(ctx context.Context) error {
	list := &networkingv1.ServiceCIDRList{}
	installed, err := cli.List(ctx, s.Cluster, list)
	if err == nil && !installed {
		return fmt.Errorf("this API server has no ServiceCIDRs: compare the pods' range with the cluster's serviceIpv4Cidr for yourself")
	}
	for _, object := range list.Items {
		for _, text := range object.Spec.CIDRs {
			if cidr, err := netip.ParsePrefix(text); err == nil {
				s.facts.ServiceCIDRs = append(s.facts.ServiceCIDRs, cidr)
			}
		}
	}
	return err
}

func (s *surveyor) vpcCNI(ctx context.Context) error {
	daemonSet := &appsv1.DaemonSet{}
	err := s.Cluster.Get(ctx, client.ObjectKey{Namespace: vpccni.Namespace, Name: vpccni.DaemonSet}, daemonSet)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		s.facts.VPCCNI = daemonSet
	}
	return cli.Explain(err)
}

// pages of a list, each of which is done with before the next is read.
func (s *surveyor) pages(ctx context.Context, list client.ObjectList, each func(), opts ...client.ListOption) error {
	for next := ""; ; {
		if _, err := cli.List(ctx, s.Cluster, list, append([]client.ListOption{client.Limit(page), client.Continue(next)}, opts...)...); err != nil {
			return err
		}
		each()
		if next = list.GetContinue(); next == "" {
			return nil
		}
	}
}

func (s *surveyor) nodes(ctx context.Context) error {
	list := &corev1.NodeList{}
	return s.pages(ctx, list, func() {
		for i := range list.Items {
			s.facts.Nodes = append(s.facts.Nodes, nodeOf(&list.Items[i]))
		}
	})
}

func nodeOf(node *corev1.Node) plan.Node {
	labels := node.Labels
	instance := node.Spec.ProviderID[strings.LastIndexByte(node.Spec.ProviderID, '/')+1:]
	return plan.Node{
		Name: node.Name, Zone: labels[corev1.LabelTopologyZone], InstanceType: labels[corev1.LabelInstanceTypeStable],
		Instance: lo.Ternary(strings.HasPrefix(instance, "i-"), instance, ""), NodePool: labels[karpv1.NodePoolLabelKey],
		PodNetwork: labels[v1alpha1.LabelPodNetwork], Fargate: labels[computeType] == "fargate",
		Windows: labels[corev1.LabelOSStable] == string(corev1.Windows), MaxPods: int(node.Status.Allocatable.Pods().Value()),
	}
}

// pods that have an address of their own, by node, and those that have no node.
func (s *surveyor) pods(ctx context.Context) error {
	on := map[string]int{}
	list := &corev1.PodList{}
	alive := fields.AndSelectors(fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)), fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)))
	err := s.pages(ctx, list, func() {
		for i := range list.Items {
			switch pod := &list.Items[i]; {
			case pod.Spec.NodeName == "":
				s.facts.PendingPods++
			case !pod.Spec.HostNetwork:
				on[pod.Spec.NodeName]++
			}
		}
	}, client.MatchingFieldsSelector{Selector: alive})
	for i := range s.facts.Nodes {
		s.facts.Nodes[i].Pods = on[s.facts.Nodes[i].Name]
	}
	return err
}

// choose the PodNetwork to plan for.
func (s *surveyor) choose() error {
	name := s.Name
	if s.Declared.Network != nil {
		name = s.Declared.Network.Name
	}
	for _, network := range s.found {
		if name == network.Name || name == "" && len(s.found) == 1 {
			s.facts.Network, s.facts.From = &network, plan.FromCluster
		} else {
			s.facts.Others = append(s.facts.Others, network)
		}
	}
	names := strings.Join(lo.Map(s.found, func(n v1alpha1.PodNetwork, _ int) string { return n.Name }), ", ")
	switch {
	case s.Declared.Network != nil:
		s.facts.Network, s.facts.From = s.Declared.Network, s.Declared.File
	case s.facts.Network != nil:
	case name == "" && len(s.found) > 1:
		return fmt.Errorf("there are several PodNetworks (%s): name one", names)
	case len(s.found) > 0:
		return fmt.Errorf("there is no PodNetwork %s; there are %s", name, names)
	default:
		s.facts.Network, s.facts.From = &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: lo.CoalesceOrEmpty(name, "default")}}, plan.FromNobody
	}
	return nil
}
