// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"context"
	"fmt"
	"maps"
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
	"k8s.io/apimachinery/pkg/labels"
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
		what, right string
		do          func(context.Context) error
	}{
		{"PodNetworks", "list podnetworks.dovetail.dev", s.podNetworks},
		{"EC2NodeClasses", "list ec2nodeclasses.karpenter.k8s.aws", s.nodeClasses},
		{"NodePools", "list nodepools.karpenter.sh", s.nodePools},
		{"ENIConfigs", "list eniconfigs.crd.k8s.amazonaws.com", s.eniConfigs},
		{"the address family of Service kubernetes", "get services", s.family},
		{"the range of Services (ServiceCIDRs)", "list servicecidrs.networking.k8s.io", s.services},
		{"DaemonSet " + vpccni.DaemonSet, "get daemonsets.apps", s.vpcCNI},
		{"Nodes", "list nodes", s.nodes},
		{"Pods", "list pods", s.pods},
	} {
		switch err := read.do(ctx); {
		case err == nil:
		case unreachable(err) || ctx.Err() != nil || apierrors.IsUnauthorized(err):
			return err
		default:
			s.unread(read.what, read.right, err)
		}
	}
	return nil
}

func (s *surveyor) podNetworks(ctx context.Context) error {
	list := &v1alpha1.PodNetworkList{}
	installed, err := cli.List(ctx, s.Cluster, list)
	s.facts.Installed.PodNetworks, s.found = installed || err != nil, list.Items
	return err
}

// nodeClasses and NodePools are Karpenter's. One that may not be listed may well be there.
func (s *surveyor) nodeClasses(ctx context.Context) error {
	list := &ec2nodeclass.EC2NodeClassList{}
	known, err := cli.List(ctx, s.Cluster, list)
	s.facts.Installed.Karpenter, s.facts.NodeClasses = known || err != nil, list.Items
	return err
}

func (s *surveyor) nodePools(ctx context.Context) error {
	list := &karpv1.NodePoolList{}
	known, err := cli.List(ctx, s.Cluster, list)
	s.facts.Installed.Karpenter, s.facts.NodePools = s.facts.Installed.Karpenter && (known || err != nil), list.Items
	return err
}

func (s *surveyor) eniConfigs(ctx context.Context) error {
	list := &eniconfig.ENIConfigList{}
	installed, err := cli.List(ctx, s.Cluster, list)
	declared := lo.SliceToMap(s.Declared.ENIConfigs, func(c eniconfig.ENIConfig) (string, bool) { return c.Name, true })
	kept := lo.Reject(list.Items, func(c eniconfig.ENIConfig, _ int) bool { return declared[c.Name] })
	s.facts.Installed.ENIConfigs, s.facts.ENIConfigs = installed || err != nil, append(kept, s.Declared.ENIConfigs...)
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
	own := node.Labels
	instance := node.Spec.ProviderID[strings.LastIndexByte(node.Spec.ProviderID, '/')+1:]
	return plan.Node{
		Name: node.Name, Zone: own[corev1.LabelTopologyZone], InstanceType: own[corev1.LabelInstanceTypeStable],
		Instance: lo.Ternary(strings.HasPrefix(instance, "i-"), instance, ""), NodePool: own[karpv1.NodePoolLabelKey],
		PodNetwork: own[v1alpha1.LabelPodNetwork], Singles: own[v1alpha1.LabelPrefixDelegation] == string(v1alpha1.Disabled), Fargate: own[computeType] == "fargate",
		Windows: own[corev1.LabelOSStable] == string(corev1.Windows), MaxPods: int(node.Status.Allocatable.Pods().Value()),
	}
}

// pods that have an address of their own, by node, and those that have no node.
func (s *surveyor) pods(ctx context.Context) error {
	on, kinds := map[string]int{}, map[string]*plan.PodKind{}
	list := &corev1.PodList{}
	alive := fields.AndSelectors(fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)), fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)))
	err := s.pages(ctx, list, func() {
		for i := range list.Items {
			pod := &list.Items[i]
			if pod.Spec.NodeName == "" {
				s.facts.PendingPods++
				continue
			}
			if !pod.Spec.HostNetwork {
				on[pod.Spec.NodeName]++
			}
			if movable(pod) {
				key := pod.Namespace + "/" + labels.Set(pod.Labels).String()
				if kinds[key] == nil {
					kinds[key] = &plan.PodKind{Namespace: pod.Namespace, Labels: pod.Labels}
				}
				kinds[key].Pods++
			}
		}
	}, client.MatchingFieldsSelector{Selector: alive})
	for i := range s.facts.Nodes {
		s.facts.Nodes[i].Pods = on[s.facts.Nodes[i].Name]
	}
	for _, key := range slices.Sorted(maps.Keys(kinds)) {
		s.facts.Movable = append(s.facts.Movable, *kinds[key])
	}
	return err
}

// fargateScheduler places the pods of Fargate.
const fargateScheduler = "fargate-scheduler"

// movable pods get another place, and perhaps one on Fargate, when theirs is gone: what a DaemonSet or the kubelet itself has there, what
// is on Fargate already and what refuses it do not. EKS reads the wish for a compute type from the annotation; some have it as a label.
func movable(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	return !pod.Spec.HostNetwork && pod.Spec.SchedulerName != fargateScheduler && pod.Annotations[computeType] != "ec2" && pod.Labels[computeType] != "ec2" &&
		(owner == nil || owner.Kind != "DaemonSet" && owner.Kind != "Node")
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
