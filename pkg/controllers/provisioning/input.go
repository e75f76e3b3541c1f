// SPDX-License-Identifier: Apache-2.0

package provisioning

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

// Declare reads the declaration of a PodNetwork with spec.provision.
func Declare(network *v1alpha1.PodNetwork, cluster string) (provision.Declaration, error) {
	spec := network.Spec.Provision
	declared := provision.Declaration{
		Cluster: cluster, PodNetwork: network.Name, SecurityGroups: spec.SecurityGroups, SubnetBits: int(cmp.Or(spec.SubnetPrefixLength, 19)),
		// A single address never comes from a reservation: where prefixes are not delegated it would waste what it reserves.
		ReservePrefixes: lo.FromPtrOr(spec.ReservePrefixes, true) && network.Spec.Addressing.PrefixDelegation != v1alpha1.Disabled,
		PerZone:         podnetwork.NamedAfterZones(network),
	}
	for _, text := range spec.CIDRs {
		cidr, err := netip.ParsePrefix(text)
		if err != nil || !cidr.Addr().Is4() || cidr.Masked() != cidr {
			return declared, fmt.Errorf("spec.provision.cidrs has %q, which is no IPv4 CIDR", text)
		}
		declared.CIDRs = append(declared.CIDRs, cidr)
	}
	if spec.RouteTables == v1alpha1.RouteTablesListed {
		declared.RouteTables = lo.MapValues(spec.RouteTableIDs, func(id v1alpha1.RouteTableID, _ string) string { return string(id) })
	}
	return declared, nil
}

// input gathers what the plan is made from, or what keeps it from being made.
func (c *Controller) input(ctx context.Context, network *v1alpha1.PodNetwork) (provision.Input, []provision.Refusal, error) {
	var in provision.Input
	var err error
	problem := func(reason, format string, args ...any) []provision.Refusal {
		return []provision.Refusal{{Reason: reason, Message: fmt.Sprintf(format, args...)}}
	}
	if in.Declaration, err = Declare(network, c.Cluster); err != nil {
		return in, problem(ReasonInvalid, "%s", err), nil
	}
	selector, err := metav1.LabelSelectorAsSelector(&network.Spec.ENIConfigs.Selector)
	if err != nil {
		return in, problem(ReasonSelector, "spec.eniConfigs.selector: %s", err), nil
	}
	if !selector.Matches(labels.Set(network.Spec.ENIConfigs.Selector.MatchLabels)) {
		return in, problem(ReasonSelector, "spec.eniConfigs.selector has expressions that ENIConfigs with the labels in its matchLabels do not meet: select by matchLabels alone"), nil
	}
	if in.NodeSubnets, err = c.nodeSubnets(ctx, network); err != nil {
		return in, nil, err
	}
	if len(in.NodeSubnets) == 0 {
		return in, problem(ReasonNoNodeClass, "no EC2NodeClass with resolved subnets matches spec.nodeClassSelector: the VPC and the zones are those of the node subnets"), nil
	}
	vpcs, err := c.vpcs.vpcs(ctx, lo.Map(in.NodeSubnets, func(s provision.NodeSubnet, _ int) string { return s.ID }))
	if err != nil {
		return in, nil, err
	}
	switch recorded := network.Status.Provision; {
	case len(vpcs) == 0:
		return in, problem(ReasonNoNodeClass, "the subnets of the EC2NodeClasses do not exist: see their status"), nil
	case len(vpcs) > 1:
		return in, problem(ReasonSeveralVPCs, "the node subnets are in %v: select EC2NodeClasses of one VPC by spec.nodeClassSelector", vpcs), nil
	case recorded != nil && recorded.VPC != vpcs[0]:
		return in, problem(ReasonVPCChanged, "pod subnets were made in %s, and the node subnets are in %s: use another PodNetwork for that VPC", recorded.VPC, vpcs[0]), nil
	}
	if in.ENIConfigs, err = c.eniConfigs(ctx, network, selector); err != nil {
		return in, nil, err
	}
	in.VPC, err = c.vpcs.vpc(ctx, network, vpcs[0])
	return in, nil, err
}

// nodeSubnets of the node classes that the network selects.
func (c *Controller) nodeSubnets(ctx context.Context, network *v1alpha1.PodNetwork) ([]provision.NodeSubnet, error) {
	nodeClasses := &ec2nodeclass.EC2NodeClassList{}
	if err := c.Client.List(ctx, nodeClasses); err != nil {
		return nil, fmt.Errorf("listing EC2NodeClasses, %w", err)
	}
	var subnets []provision.NodeSubnet
	for _, nodeClass := range nodeClasses.Items {
		if selected, err := podnetwork.Selects(network, &nodeClass); err != nil || !selected {
			continue // a selector that cannot be read selects nothing: the podnetwork controller says so
		}
		for _, s := range nodeClass.Status.Subnets {
			subnets = append(subnets, provision.NodeSubnet{ID: s.ID, Zone: s.Zone})
		}
	}
	slices.SortFunc(subnets, func(a, b provision.NodeSubnet) int { return cmp.Compare(a.ID, b.ID) })
	return slices.Compact(subnets), nil
}

func (c *Controller) eniConfigs(ctx context.Context, network *v1alpha1.PodNetwork, selector labels.Selector) ([]provision.ENIConfig, error) {
	list := &eniconfig.ENIConfigList{}
	if err := c.Client.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing ENIConfigs, %w", err)
	}
	return lo.Map(list.Items, func(config eniconfig.ENIConfig, _ int) provision.ENIConfig {
		return provision.ENIConfig{
			Name: config.Name, Subnet: config.Spec.Subnet, SecurityGroups: config.Spec.SecurityGroups,
			Selected: selector.Matches(labels.Set(config.Labels)), PodNetwork: writtenFor(&config, network), Controlled: metav1.IsControlledBy(&config, network),
		}
	}), nil
}

// writtenFor returns the PodNetwork that an ENIConfig was written for: its controller's, or what an earlier PodNetwork of the name left on it.
func writtenFor(config *eniconfig.ENIConfig, network *v1alpha1.PodNetwork) string {
	owner := metav1.GetControllerOf(config)
	switch {
	case owner == nil:
		return config.Annotations[v1alpha1.AnnotationProvision]
	case owner.UID == network.UID:
		return network.Name
	}
	return owner.Kind + " " + owner.Name // no name of a PodNetwork has a space
}
