// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// settings of the node: what its PodNetwork says, with the defaults of one that says nothing.
type settings struct {
	nodeLabel   string
	prefixes    bool // prefix delegation
	static      bool // all addresses came with the launch, where it could bring them
	labelled    bool // static is what the node's label says, not what the network asks for now
	targets     pool.Targets
	cooldown    time.Duration
	snat        bool
	randomPorts bool
	excluded    []netip.Prefix
}

func defaultSettings() settings {
	return settings{
		nodeLabel: corev1.LabelTopologyZone, prefixes: true, targets: pool.Targets{Prefix: 1, ENI: 1},
		cooldown: 30 * time.Second, snat: true, randomPorts: true,
	}
}

// settingsOf a PodNetwork.
func settingsOf(network *v1alpha1.PodNetwork) settings {
	s := defaultSettings()
	spec := network.Spec
	if spec.ENIConfigs.NodeLabel != "" {
		s.nodeLabel = spec.ENIConfigs.NodeLabel
	}
	s.prefixes = spec.Addressing.PrefixDelegation != v1alpha1.Disabled
	s.static = spec.Addressing.Allocation == v1alpha1.AllocationStatic
	if warm := spec.Addressing.Warm; warm != nil {
		set := func(target *int, value *int32) {
			if value != nil {
				*target = int(*value)
			}
		}
		set(&s.targets.Prefix, warm.PrefixTarget)
		set(&s.targets.IP, warm.IPTarget)
		set(&s.targets.MinimumIP, warm.MinimumIPTarget)
		set(&s.targets.ENI, warm.ENITarget)
	}
	s.cooldown = spec.Addressing.Rest()
	s.snat = spec.SNAT.Policy != v1alpha1.SNATNone
	s.randomPorts = spec.SNAT.RandomizePorts == nil || *spec.SNAT.RandomizePorts
	for _, cidr := range spec.SNAT.ExcludeCIDRs {
		if p, err := netip.ParsePrefix(cidr); err == nil { // the API server lets nothing else in
			s.excluded = append(s.excluded, p.Masked())
		}
	}
	return s
}

func (a *Agent) settings(ctx context.Context, node *corev1.Node) (settings, error) {
	name := node.Labels[v1alpha1.LabelPodNetwork]
	if name == "" {
		return defaultSettings(), nil
	}
	network := &v1alpha1.PodNetwork{}
	err := a.kube.Get(ctx, client.ObjectKey{Name: name}, network)
	if apierrors.IsNotFound(err) { // deleted: its nodes go on until they are replaced
		return launchedAs(node, defaultSettings()), nil
	}
	if err != nil {
		return settings{}, fmt.Errorf("reading PodNetwork %s: %w", name, err)
	}
	return launchedAs(node, settingsOf(network)), nil
}

// launchedAs prefers what the node was launched with to what its pod network asks for now. Nodes that older controllers launched
// have no such label.
func launchedAs(node *corev1.Node, s settings) settings {
	if allocation := node.Labels[v1alpha1.LabelAllocation]; allocation != "" {
		s.static, s.labelled = allocation == string(v1alpha1.AllocationStatic), true
	}
	if node.Labels[v1alpha1.LabelPrefixDelegation] == string(v1alpha1.Disabled) {
		s.prefixes = false // launched where no /28 was left, or of a type that takes none: nothing else is set aside for it
	}
	return s
}

// eniConfigName chooses as aws-node does: the label of an outside manager, the annotation, the label that the pod network
// names, then "default". tried says where the name came from.
func eniConfigName(node *corev1.Node, nodeLabel string) (name, tried string) {
	if name := node.Labels[v1alpha1.LabelExternalENIConfig]; name != "" {
		return name, "label " + v1alpha1.LabelExternalENIConfig
	}
	if name := node.Annotations[v1alpha1.AnnotationENIConfig]; name != "" {
		return name, "annotation " + v1alpha1.AnnotationENIConfig
	}
	if name := node.Labels[nodeLabel]; name != "" {
		return name, "label " + nodeLabel
	}
	return v1alpha1.DefaultENIConfig, "no label or annotation of the node names another"
}

// eniConfigMissing is the reason of an event.
const eniConfigMissing eni.Reason = "ENIConfigMissing"

func (a *Agent) eniConfig(ctx context.Context, node *corev1.Node, nodeLabel string) (*eniconfig.ENIConfig, error) {
	name, tried := eniConfigName(node, nodeLabel)
	config := &eniconfig.ENIConfig{}
	err := a.kube.Get(ctx, client.ObjectKey{Name: name}, config)
	if err == nil {
		return config, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading ENIConfig %s: %w", name, err)
	}
	all := &eniconfig.ENIConfigList{}
	if err := a.kube.List(ctx, all); err != nil {
		return nil, fmt.Errorf("listing ENIConfigs: %w", err)
	}
	var names []string
	for _, config := range all.Items {
		names = append(names, config.Name)
	}
	slices.Sort(names)
	have := "there is none"
	if len(names) > 0 {
		have = "there are " + strings.Join(names, ", ")
	}
	return nil, &eni.Error{Reason: eniConfigMissing, Message: fmt.Sprintf("no ENIConfig is named %q (%s); %s", name, tried, have)}
}

// labelHypervisor is Karpenter's: nitro or xen, empty for bare metal.
const labelHypervisor = "karpenter.k8s.aws/instance-hypervisor"

// geometryOf the instance: from the labels that the controller and Karpenter put on a node, else from EC2, once.
func (a *Agent) geometryOf(ctx context.Context, node *corev1.Node) (podcapacity.Geometry, error) {
	if a.geometry != nil {
		return *a.geometry, nil
	}
	enis, err1 := strconv.Atoi(node.Labels[v1alpha1.LabelENIs])
	ips, err2 := strconv.Atoi(node.Labels[v1alpha1.LabelIPsPerENI])
	hypervisor := node.Labels[labelHypervisor]
	if err1 == nil && err2 == nil && hypervisor != "" {
		return podcapacity.Geometry{ENIs: enis, IPsPerENI: ips, PrefixCapable: hypervisor == string(ec2types.InstanceTypeHypervisorNitro)}, nil
	}
	info, err := a.enis.Limits(ctx, a.instance.Type)
	if err != nil {
		return podcapacity.Geometry{}, err
	}
	g := podcapacity.GeometryOf(info)
	a.geometry = &g
	return g, nil
}
